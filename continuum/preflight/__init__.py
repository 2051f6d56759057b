"""Checks before training starts, without torch.

The plan uses them with upper bounds where token data does not exist yet, the executor with exact
numbers right before a stage starts, and the worker with what torch sees.
"""

from continuum.preflight.training import forecast_training

__all__ = ["forecast_training"]
