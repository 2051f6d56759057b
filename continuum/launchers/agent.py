"""torchrun that does not outlive the run that started it, and says which rank was killed."""

import json
import sys
from pathlib import Path

from continuum.launchers.death import name_signal
from continuum.stopping import ignore_signals
from continuum.worker import die_with_parent


def main() -> None:
    """Arguments are torchrun's; the last one is the file for events."""
    die_with_parent()
    ignore_signals()
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            if failure.exitcode < 0:
                _tell(
                    Path(sys.argv[-1]), f"rank {rank} was killed by {name_signal(failure.exitcode)}"
                )
        raise


def _tell(events: Path, message: str) -> None:
    result = {"event": "result", "status": "killed", "message": message}
    with events.open("ab", buffering=0) as file:
        file.write(b"\n" + json.dumps(result).encode() + b"\n")


if __name__ == "__main__":
    main()
