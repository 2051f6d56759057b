"""What earlier runs in the folder tell a plan: what has changed since them."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from continuum.errors import IntegrityError
from continuum.fields import Spec
from continuum.fingerprint import ABSENT, diff_payloads
from continuum.identity import Identity
from continuum.reasons import (
    FieldChanged,
    InputChanged,
    NewVersion,
    Reason,
    UpstreamChanged,
    changed_fields,
)
from continuum.recipe import BUDGET_FIELDS
from continuum.records import StageRecord
from continuum.runs import ExperimentFolder, StageRun
from continuum.stage import Stage
from continuum.stages import rebuild_stage


class History:
    """The run folders by stage, read when first asked for."""

    def __init__(self, folder: ExperimentFolder) -> None:
        self._folder = folder
        self._runs: dict[str, list[StageRun]] | None = None

    def latest(self, stage: str) -> StageRecord | None:
        """The record of the stage's newest run; None when it never ran."""
        runs = self.runs_of(stage)
        for run in runs:
            try:
                return run.record()
            except IntegrityError:
                continue  # Not ours, or of a release whose records had other fields.
        return None

    def runs_of(self, stage: str) -> list[StageRun]:
        """The stage's runs, newest first."""
        if self._runs is None:
            self._runs = {}
            for run in self._folder.runs():
                self._runs.setdefault(run.stage_name, []).append(run)
        found = self._runs.get(stage, [])
        return sorted(found, key=StageRun.begun_at, reverse=True) if len(found) > 1 else found


def stage_of(record: StageRecord) -> Stage | None:
    """The stage as it was recorded; None when this release cannot read it."""
    try:
        return rebuild_stage(record)
    except IntegrityError:
        return None


def explain_change(
    earlier: StageRecord, stage: Stage, now: Identity, known: Mapping[str, Identity]
) -> tuple[Reason, ...]:
    """Why the identity is another than that of an earlier run of the stage.

    Args:
        known: The identities of all stages of the experiment.
    """
    before = stage_of(earlier)
    fields: list[FieldChanged] = []
    if before is not None and before.kind == stage.kind:
        before = _with_seeds(before, earlier, stage)
        changes = told_apart(changed_fields(before, stage), earlier.identity, now.payload)
        fields = [change for change in changes if change.role == "identity"]
    reasons = (
        *_new_version(earlier, stage),
        *fields,
        *explain_inputs(
            {item.ref: (item.fingerprint,) for item in earlier.inputs},
            {str(ref): known[ref.stage].known_by for ref in now.refs},
        ),
        *explain_identities(earlier.identity, now.payload, with_stage=not fields),
    )
    return reasons or (NewVersion(stage.kind, stage.own_version, stage.own_version, ()),)


def _with_seeds(before: Stage, earlier: StageRecord, now: Stage) -> Stage:
    """The stage of a release that had one seed for everything, with each that is used now."""
    own, used = getattr(before, "seeds", None), getattr(now, "seeds", None)
    if earlier.seed is None or not isinstance(own, Spec) or not isinstance(used, Spec):
        return before
    seeds = dict.fromkeys(used.model_dump(exclude_none=True), earlier.seed)
    return before.model_copy(update={"seeds": own.model_copy(update=seeds)})


def _new_version(earlier: StageRecord, stage: Stage) -> Iterator[Reason]:
    """That the kind makes something else since that run, and what."""
    old = earlier.identity.get("version")
    if earlier.kind == stage.kind and isinstance(old, int) and old < stage.own_version:
        since = range(old + 1, stage.own_version + 1)
        news = tuple(told for version in since for told in stage.news.get(version, ()))
        yield NewVersion(stage.kind, old, stage.own_version, news)


def told_apart(
    changes: Iterable[FieldChanged], earlier: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[FieldChanged]:
    """The changes, with those called spelling that leave the identity as it is."""
    for change in changes:
        if change.role == "identity" and _is_alike(change.path, earlier, now):
            yield replace(change, role="spelling")
        else:
            yield change


def _is_alike(path: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the field that a path begins with is the same in both identities."""
    name = path.partition(".")[0]
    names = BUDGET_FIELDS if name in BUDGET_FIELDS else (name,)
    return _has_same_form(earlier, now) and all(
        _part_of(earlier, name) == _part_of(now, name) for name in names
    )


def _part_of(identity: Mapping[str, Any], field: str) -> tuple[Any, dict[str, Any]]:
    inputs = identity["inputs"].items()
    own = {path: value for path, value in inputs if path.partition(".")[0] == field}
    return identity["stage"].get(field), own


def _has_same_form(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return bool(earlier.get("payload") == now.get("payload"))


def explain_inputs(
    earlier: Mapping[str, Collection[str]], now: Mapping[str, Collection[str]]
) -> Iterator[Reason]:
    """The stages it refers to that are others now under the same name.

    Args:
        earlier: The fingerprints that each goes by, by reference.
        now: The same of today.
    """
    for ref in sorted(earlier.keys() & now.keys()):
        if not {*earlier[ref]} & {*now[ref]}:
            yield UpstreamChanged(ref, min(earlier[ref]), next(iter(now[ref])))


def explain_identities(
    earlier: Mapping[str, Any], now: Mapping[str, Any], *, with_stage: bool
) -> Iterator[Reason]:
    """What differs between two identities: local files, the seed, what is best and how it is found.

    Args:
        with_stage: Whether the stage's own fields are told too.
    """
    for change in diff_payloads(earlier, now):
        part, _, rest = change.path.partition(".")
        old, new = (None if value is ABSENT else value for value in (change.old, change.new))
        if part == "files":
            # All files of a stage, on one side alone, have no digest in common.
            digests = (value if isinstance(value, str) else None for value in (old, new))
            yield InputChanged(rest or "its local files", *digests)
        elif part in (
            "version",
            "payload",
            "inputs",
            "stage",
            "seed",
        ):  # the seed of the first form
            is_told = (part == "stage" and with_stage) or ".evaluate." in rest
            if is_told and _has_same_form(earlier, now):
                yield FieldChanged(rest, change.old, change.new, "identity")
        else:
            yield FieldChanged(change.path, change.old, change.new, "identity")
