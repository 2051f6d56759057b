"""What reads and writes weights: torch, without LitGPT and Lightning."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import continuum.training.weights

__all__ = ["continuum"]
