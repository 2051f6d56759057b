"""The launcher that a stage's record asks for."""

from collections.abc import Iterable

from continuum.execution.launchers.local import LocalLauncher
from continuum.execution.launchers.torchrun import TorchrunLauncher, processes_of
from continuum.runs.events import Outcome, Report
from continuum.runs.folder import StageRun
from continuum.runs.records import StageRecord


class AutomaticLauncher:
    """A fork for a stage of one process, torchrun for several, as its record asks."""

    def __init__(self, preloads: Iterable[str] = ()) -> None:
        self._local, self._torchrun = LocalLauncher(preloads), TorchrunLauncher()

    def launch(self, run: StageRun, record: StageRecord, on_event: Report) -> Outcome:
        num_nodes, num_devices = processes_of(record)
        launcher = self._torchrun if num_nodes * num_devices > 1 else self._local
        outcome = launcher.launch(run, record, on_event)
        if outcome.status == "stopped":
            # Slurm asked the processes themselves: the job is to end, and nothing else may begin.
            self.stop()
        return outcome

    def stop(self) -> None:
        self._local.stop()
        self._torchrun.stop()

    def close(self) -> None:
        self._local.close()
        self._torchrun.close()
