"""Train with continuum at the pace of a benchmark: `python -m tests.benchmarks.train_ours FOLDER`.

All that `continuum run` does, in this process.
"""

import sys
from pathlib import Path

from continuum.execution.executor import run_experiment
from continuum.execution.launchers.in_process import InProcessLauncher
from continuum.loading.load import load_experiment
from continuum.runs.events import Evaluated, Event, Trained
from continuum.runs.folder import ExperimentFolder
from tests.benchmarks.pacing import Pace


def main() -> None:
    """Run the experiment, a turn for every step and every evaluation."""
    folder = Path(sys.argv[1])
    pace = Pace()

    def observe(_stage: str, event: Event) -> None:
        if isinstance(event, Trained | Evaluated):
            pace.end_turn("train" if isinstance(event, Trained) else "evaluate")

    experiment = load_experiment(folder / "experiment.yaml")
    launcher = InProcessLauncher()
    run_experiment(experiment, ExperimentFolder(folder), lambda _: launcher, observe)


if __name__ == "__main__":
    main()
