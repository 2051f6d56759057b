"""Run a command; the last line on stderr is `probe: wall cpu peak_bytes exit_code`.

Processes that the command leaves behind (Python's fork server ends a moment after it) become
children of this one, so the sums and the peak hold theirs and their children's too.
"""

import ctypes
import os
import resource
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphaned descendants get this process for a parent."""
PATIENCE_S = 5.0
"""For what was left behind; a daemon is not waited for."""


def main() -> int:
    """Run `sys.argv[1:]` and report."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    start = time.perf_counter()
    code = subprocess.run(sys.argv[1:], check=False).returncode
    wall = time.perf_counter() - start
    _wait_for_all()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    sys.stdout.flush()
    print(f"\nprobe: {wall:.6f} {cpu:.6f} {peak} {code}", file=sys.stderr, flush=True)
    return 0


def _wait_for_all() -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
