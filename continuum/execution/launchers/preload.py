"""The fork server imports this once, so that every worker starts with all stage kinds and with the
modules that `PRELOAD_VARIABLE` names.

Only the server imports this module, which makes the importing process ignore stop signals.
"""

import os
import warnings
from importlib import import_module

from continuum.execution.launchers import forget_other_launchers
from continuum.execution.launchers.local import PRELOAD_VARIABLE
from continuum.execution.launchers.parent_death import die_with_parent
from continuum.execution.signals import install_signal_handlers
from continuum.runs.installed import code_origins
from continuum.stages import stage_kinds

die_with_parent()
forget_other_launchers()
# A signal to the whole process group must not end the server: workers would be lost with it.
install_signal_handlers()
stage_kinds()
code_origins()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for name in filter(None, os.environ.pop(PRELOAD_VARIABLE, "").split(",")):
        import_module(name)
