"""What can be known to go wrong in training before anything starts.

The same checks serve the plan (with upper bounds where token data does not exist yet), the
executor just before a stage is launched, and the worker (with exact numbers).
"""

from continuum.preflight.training import forecast_training

__all__ = ["forecast_training"]
