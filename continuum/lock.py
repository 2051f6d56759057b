"""continuum.lock: what a finished experiment used and made, in a file small enough to review.

The spec says `revision: main`; the lock says which commit that was. Later runs use the pins, so a
fresh clone makes the same bytes; `run --locked` refuses whatever deviates. The file is written
from the records of the runs, sorted as the spec is, and changes only where something changed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from continuum.artifacts import Artifact, TrainingCheckpoint
from continuum.errors import IntegrityError
from continuum.files import write_text
from continuum.runs import StageRun
from continuum.stage import Stage

LOCK_VERSION = 1
METRIC_DIGITS = 6
"""After the point: more would make noise in a review; the artifact's digest is exact."""
CONFLICT_MARKS = ("<<<<<<< ", "=======", ">>>>>>> ", "||||||| ")
HEADER = """\
# Written by `continuum run`, for review and for reproduction; commit it.
# `continuum lock --upgrade [STAGE]` asks the sources anew.
"""


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, as merges leave it; the last would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            word = str(key.value)
            if word in seen:
                problem = f"{word!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(word)
        return super().construct_mapping(node, deep)


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

    def entry(self, stage: str, known_by: tuple[str, ...]) -> LockedStage | None:
        """What is locked of a stage, under whatever name; else what is under its own.

        Args:
            known_by: The fingerprints that it may have been locked with.
        """
        own = self.stages.get(stage)
        if own is not None and own.fingerprint in known_by:
            return own
        return next((it for it in self.stages.values() if it.fingerprint in known_by), own)

    def renamed(self, known_by: Mapping[str, tuple[str, ...]]) -> "Lock":
        """This lock with today's names: a stage that is called otherwise now keeps its entry.

        Args:
            known_by: The fingerprints that each stage of the spec may have been locked with.
        """
        stays = {n for n, it in self.stages.items() if it.fingerprint in known_by.get(n, ())}
        free = {it.fingerprint: name for name, it in self.stages.items() if name not in stays}
        moved: dict[str, str] = {}
        for name in known_by.keys() - stays:
            before = next((free[known] for known in known_by[name] if known in free), name)
            if before != name and before not in moved.values():
                moved[name] = before
        gone = {*moved.values(), *moved}
        entries = {moved_to: self.stages[before] for moved_to, before in moved.items()}
        kept = {name: it for name, it in self.stages.items() if name not in gone}
        return self.model_copy(update={"stages": {**kept, **entries}})

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
        body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
        return HEADER + body


@dataclass(frozen=True)
class Finished:
    """A complete stage, as the lock needs it."""

    name: str
    stage: Stage
    fingerprint: str
    run: StageRun


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
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(CONFLICT_MARKS):
            raise IntegrityError(
                f"{name}, line {number}: a merge left both sides here; take one of them whole "
                "(`git checkout --ours` or `--theirs`) and let `continuum lock` renew it"
            )
    advice = "restore it from Git, or delete it and let `continuum lock` write it anew"
    try:
        document = yaml.load(text, Loader=_StrictLoader)  # it is a SafeLoader
        version = document.get("continuum_lock") if isinstance(document, dict) else LOCK_VERSION
        if isinstance(version, int) and version != LOCK_VERSION:
            advice = "use the release that wrote it"
            raise IntegrityError(f"{name}: is of version {version}, not {LOCK_VERSION}; {advice}")
        return Lock.model_validate(document)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}" if place is not None else ""
        what = getattr(error, "problem", None) or "not text"
        raise IntegrityError(f"{name}{where}: is no YAML ({what}); {advice}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise IntegrityError(f"{name}: {where}: {first['msg']}; {advice}") from None
    except (ValueError, RecursionError) as error:  # of a date, or of brackets without end
        raise IntegrityError(f"{name}: is no lock ({error}); {advice}") from None


def renew_lock(
    old: Lock | None,
    experiment: str,
    order: Iterable[str],
    finished: Iterable[Finished],
    *,
    reseals: bool = False,
) -> Lock | None:
    """The lock after a run: entries of what is finished, earlier ones of what is not.

    Args:
        order: The names of all stages of the spec; others are dropped.
        finished: The complete ones.
        reseals: True takes the seals of these runs even where others came to the same results:
            the file would else change with every machine that the experiment runs on.

    Returns:
        None when there is nothing to lock.
    """
    before = dict(old.stages) if old is not None else {}
    complete = {item.name: item for item in finished}
    records = {name: item.run.record() for name, item in complete.items()}
    newest = max(records.values(), key=lambda record: record.made_at, default=None)
    earlier = old.versions if old is not None else {}
    versions = _versions(newest.provenance) if newest is not None else earlier
    stages = {}
    for name in order:
        if name in complete:
            entry = _locked(complete[name], records[name].made_at)
            is_known = not reseals and name in before and before[name].seal is not None
            if is_known and before[name].has_results_of(entry):
                kept = {"seal": before[name].seal, "made_at": before[name].made_at}
                entry = entry.model_copy(update=kept)
            own = _versions(records[name].provenance)
        elif name in before:
            entry = before[name]
            own = {**earlier, **entry.versions}
        else:
            continue
        differing = {k: v for k, v in own.items() if versions.get(k) != v}
        stages[name] = entry.model_copy(update={"versions": differing})
    if not stages:
        return None
    return Lock(experiment=experiment, versions=versions, stages=stages)


def write_lock(path: Path, lock: Lock) -> None:
    """Write the lock if its text has changed."""
    text = lock.as_yaml()
    try:
        is_same = path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        is_same = False
    if not is_same:
        write_text(path, text)


def _locked(item: Finished, made_at: str) -> LockedStage:
    artifact, seal = item.run.artifact(), item.run.seal()
    return LockedStage(
        fingerprint=item.fingerprint,
        artifact=artifact.digest,
        seal=seal,
        made_at=made_at if seal else None,
        pins=dict(sorted(item.stage.pins(artifact).items())),
        metrics=_metrics(artifact),
        precision=item.run.precision(),
    )


def _metrics(artifact: Artifact) -> dict[str, float]:
    if not isinstance(artifact, TrainingCheckpoint):
        return {}
    return {name: round(value, METRIC_DIGITS) for name, value in sorted(artifact.metrics.items())}


def _versions(provenance: Mapping[str, Any]) -> dict[str, str | None]:
    return dict(provenance.get("versions", {}))
