"""The ancestry of everything an experiment made, drawn from its records."""
