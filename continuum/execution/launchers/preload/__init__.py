"""What the fork server imports once, so that every worker has it at birth; the kinds, always."""

from continuum.execution.signals import heed_signals
from continuum.runs.installed import code_origins
from continuum.stages import stage_kinds

# A signal to the whole group must not end the server: workers would be lost with it.
heed_signals()
stage_kinds()
code_origins()
