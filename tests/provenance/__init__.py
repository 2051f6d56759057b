"""What the record says of where it was made."""
