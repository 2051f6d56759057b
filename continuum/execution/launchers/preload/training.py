"""All that training takes."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import continuum.training.train

__all__ = ["continuum"]
