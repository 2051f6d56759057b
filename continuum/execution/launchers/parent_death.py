"""Processes that exit when the process that started them dies."""

import ctypes
import os
import signal
import sys
import threading
from multiprocessing import parent_process
from multiprocessing.connection import wait

ORPHANED = 70
"""Exit code of a worker whose run died (EX_SOFTWARE)."""
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal this process gets when its parent dies."""
PARENT_VARIABLE = "CONTINUUM_PARENT_PID"
"""Environment variable that names the parent process on this machine."""


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel signal this process when its parent dies (on Linux only).

    Exits at once if the parent that `PARENT_VARIABLE` names has already died.
    """
    if sys.platform != "linux":
        return
    parent = int(os.environ.pop(PARENT_VARIABLE, os.getppid()))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(ORPHANED)


def watch_parent() -> None:
    """Exit a forked worker when its run dies: nothing would publish its result.

    Its kernel parent is the fork server, which macOS does not end with the run.
    """
    parent = parent_process()
    assert parent is not None, "a worker has a parent"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
