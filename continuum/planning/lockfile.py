"""continuum.lock: what a finished experiment used and made, in a file small enough to review.

The spec says `revision: main`; the lock says which commit that was. Later runs use the pins, so a
fresh clone makes the same bytes; `run --locked` refuses whatever deviates. The file is written
from the records of the runs, sorted as the spec is, and changes only where something changed.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from continuum.errors import IntegrityError
from continuum.loading.diagnostics import Diagnostic, Place, SpecError
from continuum.loading.yaml import read_text
from continuum.runs.files import write_text

LOCK_VERSION = 1
MAX_VALUES = 2_000_000
"""A hundred thousand stages have fewer."""
METRIC_DIGITS = 6
"""After the point: more would make noise in a review; the artifact's digest is exact."""
HEADER = """\
# Written by `continuum run`, for review and for reproduction; commit it.
# `continuum lock --upgrade [STAGE]` asks the sources anew.
"""


class _Dumper(yaml.SafeDumper):
    """Quotes also texts that are numbers in YAML 1.2 alone, as `1e10` is."""


_NUMBERS = re.compile(r"[-+]?(\.?[0-9][0-9.]*([eE][-+]?[0-9]+)?|0o[0-7]+)$")
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBERS, list("-+.0123456789"))


class LockedStage(BaseModel):
    """What is known of one finished stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    """Of its spec and everything above it."""
    artifact: str | None = None
    """SHA-256 over the files it made; absent after an upgrade, until it is made again."""
    seal: str | None = None
    """Of the record of the run that made it; absent where an earlier release did."""
    made_at: str | None = None
    """When that very run began: the same results made elsewhere have another seal."""
    pins: dict[str, str] = {}
    """What sources that may move turned out to be: a Hub revision's commit, a URL's SHA-256."""
    metrics: dict[str, float] = {}
    """The last losses, by name."""
    precision: str | None = None
    """What it was trained in: `auto` hangs on the machine. Absent in a lock of an earlier release
    and for a stage that does not train."""
    versions: dict[str, str | None] = {}
    """Where they differ from the experiment's."""

    def disowns(self, fingerprint: str, made_at: str, seal: str | None) -> bool:
        """True if a finished run is the one this was written of, and has another record now."""
        is_this = (fingerprint, made_at) == (self.fingerprint, self.made_at)
        return is_this and self.seal is not None and seal != self.seal

    def has_results_of(self, other: "LockedStage") -> bool:
        """True if both are of equal work with an equal end, whoever did it and when."""
        names = ("fingerprint", "artifact", "pins", "metrics")
        return all(getattr(self, name) == getattr(other, name) for name in names)


class Lock(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    continuum_lock: int = LOCK_VERSION
    experiment: str
    versions: dict[str, str | None]
    """Of the packages that affect results, as of the newest stage."""
    stages: dict[str, LockedStage]

    def pins(self, stage: str) -> dict[str, str]:
        """The pins of a stage; none for one that is not locked."""
        locked = self.stages.get(stage)
        return dict(locked.pins) if locked is not None else {}

    def renamed(self, known_by: Mapping[str, Collection[str]]) -> "Lock":
        """This lock with today's names: what is locked of a stage is found by its fingerprint.

        Args:
            known_by: The fingerprints that each stage of the spec may have been locked with.
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

    def with_pins(self, stage: str, pins: Mapping[str, str]) -> "Lock":
        """This lock with other pins for a stage that is in it, whose result they disown."""
        disowned = dict.fromkeys(("artifact", "seal", "made_at"))
        entry = self.stages[stage].model_copy(update={"pins": dict(pins), **disowned})
        return self.model_copy(update={"stages": {**self.stages, stage: entry}})

    def as_yaml(self) -> str:
        """The file's text, the same for the same content."""
        document = self.model_dump(mode="json")
        for entry in document["stages"].values():
            optional = ("artifact", "seal", "made_at", "pins", "metrics", "precision", "versions")
            for name in optional:
                if not entry[name]:
                    del entry[name]
        body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
        return f"{HEADER}{body}"


def read_lock(path: Path) -> Lock | None:
    """The lock; None when there is none.

    Raises:
        IntegrityError: the file is no lock of this version.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path}: cannot be read ({error})") from None
    return parse_lock(text, str(path))


def parse_lock(text: str, name: str) -> Lock:
    """A lock from its text.

    Raises:
        IntegrityError: it is none, as a merge that went wrong leaves it; `name` is told.
    """
    advice = "restore it from Git, or delete it and let `continuum lock` write it anew"
    faults: list[Diagnostic] = []
    try:
        root = read_text(text, Place(name, 1, 1, Path()), faults, MAX_VALUES)
    except SpecError as error:
        faults = [*error.diagnostics]
    for fault in faults[:1]:
        if fault.code == "E004":
            advice = (
                "take one side of the merge whole (`git checkout --ours` or `--theirs`) and let "
                "`continuum lock` renew it"
            )
        raise IntegrityError(f"{name}, line {fault.place.line}: {fault.message}; {advice}")
    document = root.plain()
    version = document.get("continuum_lock") if isinstance(document, dict) else LOCK_VERSION
    if isinstance(version, int) and version != LOCK_VERSION:
        advice = "use the release that wrote it"
        raise IntegrityError(f"{name}: is of version {version}, not {LOCK_VERSION}; {advice}")
    try:
        return Lock.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise IntegrityError(f"{name}: {where}: {first['msg']}; {advice}") from None


def write_lock(path: Path, lock: Lock) -> None:
    """Write the lock if its text has changed."""
    text = lock.as_yaml()
    try:
        is_same = path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        is_same = False
    if not is_same:
        write_text(path, text)
