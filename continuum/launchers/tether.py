"""A command that is interrupted when the process that started it dies.

For `srun`, which a kill alone would leave running with all it started on other nodes.
"""

import os
import signal
import sys

from continuum.worker import die_with_parent


def main() -> None:
    """Become the command in the arguments; the kernel remembers whose end to tell of."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # A shell's background jobs have it ignored.
    die_with_parent(signal.SIGINT)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
