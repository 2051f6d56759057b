"""What the fork server imports once, so that every worker has it at birth."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import continuum.training.session

from continuum.stage import stage_kinds

__all__ = ["continuum"]

stage_kinds()
