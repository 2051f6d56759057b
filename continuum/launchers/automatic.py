"""The launcher a stage's runtime asks for: a fork for one process, torchrun for several."""

from collections.abc import Iterable
from functools import cached_property

from continuum.launchers import OnEvent, Outcome
from continuum.launchers.local import LocalLauncher
from continuum.launchers.torchrun import TorchrunLauncher, processes_of
from continuum.runs import StageRun


class AutomaticLauncher:
    """Chooses for each stage from its record."""

    def __init__(self, preloads: Iterable[str] = ()) -> None:
        self._local = LocalLauncher(preloads)

    @cached_property
    def _torchrun(self) -> TorchrunLauncher:
        return TorchrunLauncher()

    def launch(self, run: StageRun, on_event: OnEvent) -> Outcome:
        num_nodes, num_devices = processes_of(run)
        launcher = self._torchrun if num_nodes * num_devices > 1 else self._local
        outcome = launcher.launch(run, on_event)
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
