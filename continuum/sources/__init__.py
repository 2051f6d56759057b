"""Files from elsewhere: the Hub, a URL, this disk, Python's own library."""
