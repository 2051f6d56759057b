"""The parts by name, in the order in which they are played, and what each of them may use."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODULES = (
    "versions", "numbers", "graphs", "recovering", "speed", "profiling", "footprint", "saving",
    "failing", "waiting", "examples",
)  # fmt: skip
ORDER = (
    "versions", "tests", "head", "compile", "ragged", "recovery",
    "benchmark-160m", "benchmark-410m", "benchmark-1b", "benchmark-160m-bf16-true",
    "benchmark-410m-bf16-true", "benchmark-1b-bf16-true",
    "profile", "memory-160m", "memory-1b", "saving", "devices", "out-of-memory", "waits",
    "quickstart",
)  # fmt: skip


class PartFailedError(Exception):
    """What was found is not what should be."""


@dataclass(frozen=True)
class Setting:
    """Where a part is played."""

    device: str
    """`cuda` or `cpu`."""
    work_dir: Path
    """Its own folder, removed at the end."""

    @property
    def is_toy(self) -> bool:
        """True without a GPU: a model of toy size then, and figures that say nothing."""
        return self.device == "cpu"


Play = Callable[[Setting], dict[str, Any]]


@dataclass
class Registry:
    """All parts by name."""

    found: dict[str, Play] = field(default_factory=dict)

    def __call__(self, name: str) -> Callable[[Play], Play]:
        """Decorate the function that plays a part and returns its figures."""

        def register(play: Play) -> Play:
            self.found[name] = play
            return play

        return register


part = Registry()


def load_parts() -> dict[str, Play]:
    """All parts, in their order."""
    for name in MODULES:
        importlib.import_module(f"{__package__}.{name}")
    assert part.found.keys() == set(ORDER), set(ORDER) ^ part.found.keys()
    return {name: part.found[name] for name in ORDER}


def check(is_well: bool, message: str) -> None:
    """Fail the part unless all is well.

    Raises:
        PartFailedError: with the message.
    """
    if not is_well:
        raise PartFailedError(message)
