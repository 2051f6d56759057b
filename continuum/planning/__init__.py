"""Decide, explain, price and pin what a run does."""
