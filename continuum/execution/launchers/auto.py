"""The launcher that a stage's record asks for: a fork for one process, torchrun for several."""

from collections.abc import Iterable

from continuum.execution.launchers.local import LocalLauncher
from continuum.execution.launchers.torchrun import TorchrunLauncher, num_processes
from continuum.runs.events import Outcome, Report
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord


class AutomaticLauncher:
    """Runs each stage with the launcher that fits its number of processes."""

    def __init__(self, preloads: Iterable[str] = ()) -> None:
        self._local, self._torchrun = LocalLauncher(preloads), TorchrunLauncher()

    def launch(self, run: StageRun, record: StageRecord, on_event: Report) -> Outcome:
        num_nodes, num_devices = num_processes(record)
        launcher = self._torchrun if num_nodes * num_devices > 1 else self._local
        outcome = launcher.launch(run, record, on_event)
        if outcome.status == "stopped":
            # Slurm signalled the processes directly: the job is ending, so start nothing else.
            self.stop()
        return outcome

    def stop(self) -> None:
        self._local.stop()
        self._torchrun.stop()

    def close(self) -> None:
        self._local.close()
        self._torchrun.close()
