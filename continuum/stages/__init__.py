"""The registry of stage kinds: one file each in this package, or a class of another package.

A kind is a subclass of `continuum.experiment.stage.Stage` with its fields, the artifact it
produces and `run()`. In this package it is found by its file. Another package registers its class
as an entry point of the group `continuum.stages`, as in its pyproject.toml:

    [project.entry-points."continuum.stages"]
    average = "my_package.average:Average"

Every command that reads a spec imports all kinds: put heavy imports into `run()`.
"""

import importlib
import json
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from types import MappingProxyType
from typing import NoReturn, get_args

from pydantic import ValidationError

from continuum.errors import IntegrityError, PreflightError
from continuum.experiment.stage import Stage
from continuum.runs.records import StageRecord, with_sequences


@cache
def stage_kinds() -> Mapping[str, type[Stage]]:
    """All kinds by name, those of this package first.

    Raises:
        PreflightError: an installed package provides an invalid kind.
    """
    kinds = {_kind_of(cls): cls for cls in _own_kinds()}
    for entry in sorted(_offers(), key=lambda entry: (entry.name, entry.value)):
        cls = _load(entry)
        if entry.name in kinds:
            other = kinds[entry.name]
            _refuse(entry, f"{other.__module__}.{other.__qualname__} already is {entry.name!r}")
        kinds[entry.name] = cls
    return MappingProxyType(kinds)


def distribution_of(kind: type[Stage]) -> dict[str, str]:
    """The distribution that provides a kind, by its top-level module; empty for our own."""
    found = (entry.dist for entry in _offers() if entry.name == _kind_of(kind))
    return {kind.__module__.partition(".")[0]: dist.name for dist in found if dist is not None}


def rebuild_stage(record: StageRecord) -> Stage:
    """Rebuild the stage of a record.

    Raises:
        IntegrityError: its kind or fields are unknown to this release.
    """
    cls = stage_kinds().get(record.kind)
    if cls is None:
        raise IntegrityError(f"stage {record.name!r}: unknown stage kind {record.kind!r}")
    try:
        return cls.model_validate_json(json.dumps(with_sequences(record.spec, record.recipe)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise IntegrityError(
            f"stage {record.name!r}: its record is incompatible with this release "
            f"({where}: {first['msg']})"
        ) from None


@cache
def _offers() -> EntryPoints:
    return entry_points(group=__name__)


def _own_kinds() -> Iterator[type[Stage]]:
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        for cls in vars(module).values():
            is_stage = isinstance(cls, type) and issubclass(cls, Stage)
            if is_stage and cls.__module__ == module.__name__ and "kind" in cls.__annotations__:
                yield cls


def _kind_of(cls: type[Stage]) -> str:
    """The only valid value of its field `kind`; empty for a class that is not a kind."""
    values = get_args(cls.model_fields["kind"].annotation)
    return str(values[0]) if len(values) == 1 else ""


def _load(entry: EntryPoint) -> type[Stage]:
    try:
        cls = entry.load()
    except Exception as error:
        _refuse(entry, f"import failed: {type(error).__name__}: {error}")
    if not (isinstance(cls, type) and issubclass(cls, Stage)):
        _refuse(entry, "not a subclass of continuum.experiment.stage.Stage")
    if _kind_of(cls) != entry.name:
        _refuse(entry, f"its field `kind` must be Literal[{entry.name!r}]")
    return cls


def _refuse(entry: EntryPoint, why: str) -> NoReturn:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
    raise PreflightError(
        f"invalid stage kind {entry.name!r} ({entry.value}) of the package {package}: "
        f"{why}; update or uninstall the package"
    )
