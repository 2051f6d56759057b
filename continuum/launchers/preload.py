"""What the fork server imports once, so that every worker has it at birth."""

import warnings

from continuum.stage import stage_kinds
from continuum.stopping import heed_signals

# A signal to the whole group must not end the server: workers would be lost with it.
heed_signals()

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import continuum.training.session

__all__ = ["continuum"]

stage_kinds()
