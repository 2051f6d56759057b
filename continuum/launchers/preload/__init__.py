"""What the fork server imports once, so that every worker has it at birth; the kinds, always."""

from continuum.code_origins import code_origins
from continuum.stages import stage_kinds
from continuum.stopping import heed_signals

# A signal to the whole group must not end the server: workers would be lost with it.
heed_signals()
stage_kinds()
code_origins()
