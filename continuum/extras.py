"""Optional packages: whether what the spec asks for is installed, without importing any of it."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from continuum.problems import Problem

EXTRAS = {"wandb": "wandb", "mlflow": "mlflow"}
"""The module each logger needs; the extra that installs it has the logger's name."""


def missing_extras(loggers: Iterable[str]) -> Iterator[Problem]:
    """Why loggers cannot be used here, and what to install."""
    for name in loggers:
        module = EXTRAS.get(name)
        if module is not None and not _is_installed(module):
            yield Problem(
                ("runtime", "loggers"),
                f"{name} is not installed; `pip install 'continuum[{name}]'` installs it",
                needs="machine",
            )


def _is_installed(module: str) -> bool:
    """A mere folder of this name, such as the `wandb` that W&B leaves behind, is no package."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None
