"""Compare two states of a stage.

A snapshot is a flat mapping of what is known of a stage as it is planned, recorded or locked. Why a
stage runs again, `diff`, `run --plan`, `run --locked` and whether results were reproduced: each
answer is the changes between two snapshots.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from continuum.errors import IntegrityError
from continuum.experiment.fields import Spec, field_values
from continuum.experiment.identity import PAYLOAD, Identity
from continuum.experiment.recipe import BUDGET_FIELDS
from continuum.experiment.stage import Stage
from continuum.formatting import short_digest
from continuum.loading.dump import in_one_line
from continuum.planning.lockfile import LockedStage
from continuum.runs.artifacts import Artifact
from continuum.runs.records import StageRecord
from continuum.runs.redaction import REDACTED, without_secrets
from continuum.stages import rebuild_stage, stage_kinds

ABSENT = "(absent)"
CODES = {
    "version": ("new-version", "kind"),
    "field": ("field-changed", "path"),
    "input": ("upstream-changed", "ref"),
    "file": ("input-changed", "name"),
    "digest": ("input-changed", "name"),
    "selected": ("field-changed", "path"),
    "payload": ("field-changed", "path"),
    "pin": ("pin-changed", "source"),
}
"""The code of a change by its kind, and the key of its name in JSON. `field` is a field of the spec
and `payload` one of the identity; `file` is a local file, `digest` the content of an input's
artifact, `selected` how the best checkpoint of an input is found."""
IDENTITY = ("version", "field", "input", "file", "selected")
OF_FORM = frozenset({"selected", "payload"})
"""Compared only if both identities have the same payload version."""
MUTUAL = frozenset({"version", "input", "digest", "precision"})
"""Reported only if both sides have a value."""
_FORM = ("form", "")


class Entry(NamedTuple):
    """A value of a snapshot; for a field, its role too."""

    value: Any
    role: str = "identity"


Key = tuple[str, str]
"""Its kind and its name."""
Snapshot = Mapping[Key, Entry]


@dataclass(frozen=True)
class Change:
    """One difference. `code` is stable; the text may change."""

    what: str
    name: str
    old: Any
    """`ABSENT` for a field that did not exist; None for anything else."""
    new: Any
    role: str = "identity"
    """`identity`: the result changes; `runtime`: the same work is done in another way; `spelling`:
    the same value is written in another way."""
    news: tuple[str, ...] = ()
    """What a new version of a kind does differently."""

    def __post_init__(self) -> None:
        """Remove secrets from the values, once they were compared."""
        for name in ("old", "new"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, without_secrets(value))

    @property
    def code(self) -> str:
        return CODES[self.what][0]

    def __str__(self) -> str:
        old, new = self.old, self.new
        match self.code:
            case "field-changed" if old == new:
                return f"{self.name} changed: a secret in it, which is not shown"
            case "field-changed":
                how = "" if self.role == "identity" else f" ({self.role})"
                return f"{self.name} changed: {in_one_line(old)} -> {in_one_line(new)}{how}"
            case "input-changed" if old is None or new is None:
                return f"{self.name} was {'added' if old is None else 'removed'}"
            case "input-changed":
                digests = f"{short_digest(old)} -> {short_digest(new)}"
                return f"content of {self.name} changed: {digests} (SHA-256)"
            case "pin-changed":
                pins = f"{short_digest(new)}, not {short_digest(old)}"
                return f"continuum.lock pins {self.name} to {pins}"
            case "new-version" if old == new:
                return "new version of continuum's records"
            case "new-version":
                news = f": {'; '.join(self.news)}" if self.news else ""
                return f"new version of kind {self.name}{news}"
        return f"{self.name} changed"

    def as_json(self) -> dict[str, Any]:
        """The code, the text, and the values."""
        code, key = CODES[self.what]
        found = {"code": code, "text": str(self), key: self.name, "old": self.old, "new": self.new}
        if code == "field-changed":
            found["role"] = self.role
        return found | ({"news": self.news} if code == "new-version" else {})


def changes(before: Snapshot, after: Snapshot, what: tuple[str, ...]) -> Iterator[Change]:
    """The differences of these kinds, in the order of the kinds, then by name."""
    is_comparable = before.get(_FORM) == after.get(_FORM)
    keys = (key for key in before.keys() | after.keys() if key[0] in what)
    for kind, name in sorted(keys, key=lambda key: (what.index(key[0]), key)):
        was, now = before.get((kind, name)), after.get((kind, name))
        if (kind in MUTUAL and None in (was, now)) or (kind in OF_FORM and not is_comparable):
            continue
        missing = ABSENT if kind == "field" or kind in OF_FORM else None
        old, new = (missing if entry is None else entry.value for entry in (was, now))
        role = (now or was or Entry(None)).role
        if kind == "field" and role == "identity" and is_comparable and _FORM in before:
            meaning = _meaning(name)
            role = "spelling" if before.get(meaning) == after.get(meaning) else role
        if old != new:
            yield Change(kind, name, old, new, role)


def explain(record: StageRecord, it: Identity) -> tuple[Change, ...]:
    """Why a stage's fingerprint differs from that of an earlier run."""
    before, after, stage = of_record(record, it), of_identity(it), it.stage
    found = [change for change in changes(before, after, IDENTITY) if change.role == "identity"]
    if not any(change.what == "field" for change in found):
        found += changes(before, after, ("payload",))
    if found and found[0].what == "version":
        since = range(found[0].old + 1, stage.own_version + 1)
        news = tuple(it for version in since for it in stage.news.get(version, ()))
        found[0] = replace(found[0], news=news)
    hidden = [it for it in field_values(stage) if REDACTED in str(it.value)]
    same = Change("version", stage.kind, stage.own_version, stage.own_version)
    if not found and hidden:  # A credential that is not recorded is all that can differ.
        found = [Change("field", it.path, it.value, it.value) for it in hidden]
    return tuple(found) or (same,)


def changed_inputs(
    record: StageRecord | None, it: Identity, inputs: Mapping[str, Artifact | None]
) -> list[Change]:
    """Inputs whose content differs from what an earlier run of the stage used.

    Args:
        inputs: By reference; None where it does not exist yet.
    """
    if record is None:
        return []
    used = {ref: record.input(ref, it.inputs[ref][0]) for ref in it.made_from}
    before = of_values("digest", {ref: item.digest for ref, item in used.items() if item})
    after = of_values("digest", {ref: item and item.digest for ref, item in inputs.items()})
    return [*changes(before, after, ("digest",))]


def of_fields(spec: Spec, names: Collection[str] | None = None) -> Snapshot:
    """All fields of a spec, or only these and those below them."""
    found = field_values(spec, names=names)
    return {("field", it.path): Entry(it.value, it.role) for it in found}


def of_identity(it: Identity) -> Snapshot:
    """A planned stage: its fields, its inputs' identities, its local files."""
    return {
        ("version", it.stage.kind): Entry(it.stage.own_version),
        **of_fields(it.stage),
        **{("input", ref): Entry(known_by[0]) for ref, known_by in it.inputs.items()},
        **_of_payload(it.payload),
    }


def of_record(record: StageRecord, now: Identity) -> Snapshot:
    """A recorded stage; without fields if this release cannot read them.

    Args:
        now: The stage to compare it with. An input whose fingerprint differs only by the payload
            version is the same.
    """
    stage = stage_of(record)
    found = {} if stage is None else dict(of_fields(_with_seeds(stage, record, now.stage)))
    for used in record.inputs:
        known = now.inputs.get(used.ref, ())
        is_known = used.fingerprint in known
        found["input", used.ref] = Entry(known[0] if is_known else used.fingerprint)
    return of_run(record, found)


def of_run(record: StageRecord, fields: Snapshot) -> Snapshot:
    """A recorded stage whose fields are known: its version and its canonical identity too."""
    version = of_values("version", {record.kind: record.identity.get("version")})
    return {**version, **fields, **_of_payload(record.identity)}


def of_values(what: str, values: Mapping[str, Any]) -> Snapshot:
    """Values of one kind by their names, without those that are None."""
    return {(what, name): Entry(value) for name, value in values.items() if value is not None}


def of_locked(locked: LockedStage) -> Snapshot:
    """The entry of a stage in `continuum.lock`."""
    return {
        **of_values("fingerprint", {"": locked.fingerprint}),
        **of_values("pin", locked.pins),
        **of_values("metric", locked.metrics),
        **of_values("artifact", {"sha256": locked.artifact}),
        **of_values("precision", {"precision": locked.precision}),
    }


def class_of(kind: str) -> type[Stage] | None:
    """The class of a recorded kind; None if this release does not know it."""
    return stage_kinds().get(kind)


def stage_of(record: StageRecord) -> Stage | None:
    """The stage as it was recorded; None if this release cannot read it."""
    try:
        return rebuild_stage(record)
    except IntegrityError:
        return None


def _with_seeds(before: Stage, earlier: StageRecord, now: Stage) -> Stage:
    """A stage recorded when there was one seed for everything, with today's seeds."""
    own, used = getattr(before, "seeds", None), getattr(now, "seeds", None)
    if earlier.seed is None or not isinstance(own, Spec) or not isinstance(used, Spec):
        return before
    seeds = dict.fromkeys(used.model_dump(exclude_none=True), earlier.seed)
    return before.model_copy(update={"seeds": own.model_copy(update=seeds)})


def _of_payload(payload: Mapping[str, Any]) -> Snapshot:
    """What a payload holds beside the fields; only the local files in its first version."""
    found = {("file", name): Entry(digest) for name, digest in payload.get("files", {}).items()}
    if payload.get("payload") != PAYLOAD:
        return found
    stage, inputs = payload["stage"], payload["inputs"]
    meanings: dict[Key, dict[str, Any]] = {}
    for part, values in (("stage", stage), ("inputs", inputs)):
        for path, value in values.items():
            meanings.setdefault(_meaning(path), {})[f"{part}.{path}"] = value
    selected = {path: value for path, value in _flat(inputs) if ".evaluate." in path}
    return {
        **found,
        _FORM: Entry(PAYLOAD),
        **{key: Entry(value) for key, value in meanings.items()},
        **{("selected", path): Entry(value) for path, value in selected.items()},
        **{("payload", path): Entry(value) for path, value in _flat(stage)},
    }


def _meaning(path: str) -> Key:
    """The key of a field's canonical value; several fields set the training budget."""
    field = path.partition(".")[0]
    return ("meaning", "budget" if field in BUDGET_FIELDS else field)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a mapping by their paths."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, value
