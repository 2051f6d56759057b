"""Train with continuum at the pace of a benchmark: `python -m tests.benchmarks.train_ours FOLDER`.

All that `continuum run` does, in this process.
"""

import sys
from pathlib import Path

from continuum.runs.events import Evaluated, Event, Trained
from tests.benchmarks.pacing import Pace
from tests.in_process import run_folder


def main() -> None:
    """Run the experiment, a turn for every step and every evaluation."""
    folder = Path(sys.argv[1])
    pace = Pace()

    def observe(_stage: str, event: Event) -> None:
        if isinstance(event, Trained | Evaluated):
            pace.end_turn("train" if isinstance(event, Trained) else "evaluate")

    run_folder(folder, observe)


if __name__ == "__main__":
    main()
