"""continuum.lock: sources and results of a finished experiment, small enough to review.

The spec says `revision: main`; the lockfile says which commit that was. Later runs use the pins, so
a fresh clone produces the same output; `run --locked` refuses any deviation. The file is written
from the records of the runs in the order of the spec, and changes only where something changed.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from continuum.errors import IntegrityError
from continuum.loading.diagnostics import Diagnostic, Place, SpecError
from continuum.loading.yaml import read_text
from continuum.runs.files import write_text
from continuum.runs.records import first_error
from continuum.runs.redaction import without_credentials

LOCK_VERSION = 1
MAX_VALUES = 2_000_000
"""More than a lockfile of 100,000 stages has."""
METRIC_DIGITS = 6
"""Decimals; more would be noise in a review, and the artifact's digest is exact."""
HEADER = """\
# Written by `continuum run`, for review and for reproduction; commit it.
# `continuum lock --upgrade [STAGE]` looks up the sources again.
"""


class _Dumper(yaml.SafeDumper):
    """Also quotes strings that only YAML 1.2 reads as numbers, such as `1e10`."""


_NUMBERS = re.compile(r"[-+]?(\.?[0-9][0-9.]*([eE][-+]?[0-9]+)?|0o[0-7]+)$")
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBERS, list("-+.0123456789"))


class LockedStage(BaseModel):
    """The entry of a finished stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    """Fingerprint of its spec and everything above it."""
    artifact: str | None = None
    """SHA-256 of its output; absent after an upgrade, until the stage has run again."""
    seal: str | None = None
    """Seal of the run's record; absent if an earlier release made it."""
    made_at: str | None = None
    """When that run began; equal results made elsewhere have another seal."""
    pins: dict[Annotated[str, AfterValidator(without_credentials)], str] = {}
    """What movable sources were: the commit of a Hub revision, the SHA-256 of a URL."""
    metrics: dict[str, float] = {}
    """The final losses, by name."""
    precision: str | None = None
    """The precision it was trained in, since `auto` depends on the machine. Absent if the stage
    does not train, and in a lockfile of an earlier release."""
    versions: dict[str, str | None] = {}
    """Package versions that differ from the experiment's."""

    def disowns(self, fingerprint: str, made_at: str, seal: str | None) -> bool:
        """True if the entry is of this run, and the run's record has changed since."""
        is_this = (fingerprint, made_at) == (self.fingerprint, self.made_at)
        return is_this and self.seal is not None and seal != self.seal

    def has_results_of(self, other: "LockedStage") -> bool:
        """True if both are the same work with the same results, whenever it was done."""
        names = ("fingerprint", "artifact", "pins", "metrics")
        return all(getattr(self, name) == getattr(other, name) for name in names)


class Lockfile(BaseModel):
    """The content of `continuum.lock`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    continuum_lock: int = LOCK_VERSION
    experiment: str
    versions: dict[str, str | None]
    """Versions of the packages that affect results, when the newest stage ran."""
    stages: dict[str, LockedStage]

    def pins(self, stage: str) -> dict[str, str]:
        """The pins of a stage; none if it is not in the lockfile."""
        locked = self.stages.get(stage)
        return dict(locked.pins) if locked is not None else {}

    def renamed(self, known_by: Mapping[str, Collection[str]]) -> "Lockfile":
        """The lockfile with the stages' names of today; entries are found by their fingerprints.

        Args:
            known_by: The fingerprints that each stage of the spec may be locked with.
        """
        stays = {n for n, it in self.stages.items() if it.fingerprint in known_by.get(n, ())}
        free = {it.fingerprint: name for name, it in self.stages.items() if name not in stays}
        found: dict[str, LockedStage] = {}
        for name, known in known_by.items():
            former = name if name in stays else next((free[it] for it in known if it in free), name)
            if former in self.stages:
                found[name] = self.stages[former]
                free.pop(found[name].fingerprint, None)
        moved = {it.fingerprint for it in found.values()}
        rest = {
            name: it
            for name, it in self.stages.items()
            if name not in found and it.fingerprint not in moved
        }
        return self.model_copy(update={"stages": {**found, **rest}})

    def with_pins(self, stage: str, pins: Mapping[str, str]) -> "Lockfile":
        """The lockfile with other pins for a stage that is in it, and without its result."""
        disowned = dict.fromkeys(("artifact", "seal", "made_at"))
        entry = self.stages[stage].model_copy(update={"pins": dict(pins), **disowned})
        return self.model_copy(update={"stages": {**self.stages, stage: entry}})

    def as_yaml(self) -> str:
        """The file's text; the same for the same content."""
        document = self.model_dump(mode="json")
        for entry in document["stages"].values():
            optional = ("artifact", "seal", "made_at", "pins", "metrics", "precision", "versions")
            for name in optional:
                if not entry[name]:
                    del entry[name]
        body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
        return f"{HEADER}{body}"


def read_lockfile(path: Path) -> Lockfile | None:
    """Read `continuum.lock`; None if it does not exist.

    Raises:
        IntegrityError: the file is not a valid lockfile of this version.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path}: cannot read the lockfile ({error})") from None
    return parse_lockfile(text, str(path))


def parse_lockfile(text: str, name: str) -> Lockfile:
    """Parse the text of a lockfile.

    Args:
        name: The file's name, for errors.

    Raises:
        IntegrityError: it is not valid, for example after a merge conflict.
    """
    advice = "restore it from Git, or delete it and run `continuum lock`"
    faults: list[Diagnostic] = []
    try:
        root = read_text(text, Place(name, 1, 1, Path()), faults, MAX_VALUES)
    except SpecError as error:
        faults = [*error.diagnostics]
    for fault in faults[:1]:
        if fault.code == "E004":
            advice = (
                "take one side of the merge (`git checkout --ours` or `--theirs`) and run "
                "`continuum lock`"
            )
        raise IntegrityError(f"{name}, line {fault.place.line}: {fault.message}; {advice}")
    document = root.plain()
    version = document.get("continuum_lock") if isinstance(document, dict) else LOCK_VERSION
    if isinstance(version, int) and version != LOCK_VERSION:
        raise IntegrityError(
            f"{name}: lockfile version {version} is not supported (expected {LOCK_VERSION}); "
            "use the release that wrote it"
        )
    try:
        return Lockfile.model_validate(document)
    except ValidationError as error:
        raise IntegrityError(f"{name}: {first_error(error)}; {advice}") from None


def write_lockfile(path: Path, lockfile: Lockfile) -> None:
    """Write the lockfile if its text has changed."""
    text = lockfile.as_yaml()
    try:
        is_same = path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        is_same = False
    if not is_same:
        write_text(path, text)
