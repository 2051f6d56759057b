"""Carry out a plan, in processes."""
