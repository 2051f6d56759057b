"""A problem of an experiment: one type for errors and warnings of the spec and of the plan."""

from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["error", "warning"]
Needs = Literal["spec", "folder", "machine"]


@dataclass(frozen=True)
class Problem:
    """An error or warning at a path of the experiment, or of the part that was checked."""

    path: tuple[str | int, ...]
    message: str
    suggestion: str | None = None
    code: str = ""
    """The code for `continuum explain`; see `topic`."""
    severity: Severity = "error"
    """`run` refuses to start if there is an error."""
    needs: Needs = "spec"
    """The input it depends on: the spec alone, the experiment's folder, or this machine.

    `validate` and `diff` skip problems of the machine, since another one may not have them.
    """
    at_key: bool = False
    """True if it is about the key at `path`, not its value."""
    is_secret: bool = False
    """True if the value must not be printed."""

    @property
    def topic(self) -> str:
        """The code, or the general one for its severity and what it depends on."""
        if self.code or self.severity == "warning":
            return self.code or "W016"
        return {"spec": "E401", "folder": "E402", "machine": "E403"}[self.needs]

    def below(self, *prefix: str | int) -> "Problem":
        """Return the same problem with its path below `prefix`."""
        return replace(self, path=(*prefix, *self.path))

    def __str__(self) -> str:
        return self.message
