"""All that training takes."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import continuum.training.session

__all__ = ["continuum"]
