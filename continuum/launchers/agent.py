"""torchrun that does not outlive the run that started it, and says which rank was killed."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from continuum.launchers.death import name_signal
from continuum.launchers.torchrun import SHUTDOWN_TIMEOUT_S
from continuum.stopping import ignore_signals
from continuum.worker import PARENT_VARIABLE, die_with_parent


def main() -> None:
    """Arguments are torchrun's; the last one is the file for events."""
    die_with_parent()
    os.environ[PARENT_VARIABLE] = str(os.getpid())  # the ranks'
    ignore_signals()
    from torch.distributed.elastic.multiprocessing.api import PContext
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    # After a rank's death torchrun gives the others its default of 30 s, whatever
    # --shutdown-timeout says. They cannot go on, and one that is frozen would use it all.
    PContext.close.__defaults__ = (None, SHUTDOWN_TIMEOUT_S)
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            if failure.exitcode < 0:
                _tell(Path(sys.argv[-1]), rank, failure.exitcode)
        raise


def _tell(events: Path, rank: int, exit_code: int) -> None:
    message = f"rank {rank} was killed by {name_signal(exit_code)}"
    result = {"event": "result", "status": "killed", "message": message}
    with suppress(OSError), events.open("ab", buffering=0) as file:
        file.write(b"\n" + json.dumps(result).encode() + b"\n")


if __name__ == "__main__":
    main()
