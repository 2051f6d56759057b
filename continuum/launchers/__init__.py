"""How a stage gets its processes. One protocol, one file for each way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from continuum.errors import ContinuumError, Status
from continuum.runs import StageRun

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Outcome:
    """How the carrying out of a stage ended."""

    status: Status
    message: str = ""

    @staticmethod
    def of(error: ContinuumError) -> "Outcome":
        """The end of a stage that raised this."""
        return Outcome(error.stage_status, str(error))

    @staticmethod
    def told(result: Mapping[str, Any]) -> "Outcome":
        """The end that a worker told of, by an event."""
        return Outcome(result["status"], result["message"])


class Launcher(Protocol):
    """Carries out stages; may be used from several threads."""

    def launch(self, run: StageRun, on_event: OnEvent) -> Outcome:
        """Carry out the stage whose record lies in `run`; returns when it has ended."""

    def stop(self) -> None:
        """Ask everything under way to save and end."""

    def close(self) -> None:
        """Release what the launcher holds."""
