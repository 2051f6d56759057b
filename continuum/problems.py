"""What is wrong with an experiment: one type for mistakes, warnings and what a plan foresees."""

from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["error", "warning"]
Needs = Literal["spec", "folder", "machine"]


@dataclass(frozen=True)
class Problem:
    """Something wrong at a path of the experiment, or of the part that is asked."""

    path: tuple[str | int, ...]
    message: str
    suggestion: str | None = None
    code: str = ""
    """What `continuum explain` knows it by; see `topic`."""
    severity: Severity = "error"
    """A run is refused for errors."""
    needs: Needs = "spec"
    """What decides it: the spec alone, what is in the experiment's folder, or this machine.

    `validate` and `diff` leave out what another machine might not have.
    """
    at_key: bool = False
    """Whether the key at `path` is meant rather than its value."""
    is_secret: bool = False
    """Whether the value must not be shown."""

    @property
    def topic(self) -> str:
        """The code, or else the one of all problems of its severity that need the same."""
        if self.code or self.severity == "warning":
            return self.code or "W016"
        return {"spec": "E401", "folder": "E402", "machine": "E403"}[self.needs]

    def below(self, *prefix: str | int) -> "Problem":
        """The same problem, seen from above: its path below `prefix`."""
        return replace(self, path=(*prefix, *self.path))

    def __str__(self) -> str:
        return self.message
