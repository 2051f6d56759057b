"""Inputs that no one would write, and many of them: each is valid or its mistakes are told."""
