"""Records of stages and of their ancestors: their fields, and their seeds apart from these."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from continuum.errors import IntegrityError
from continuum.planning.changes import (
    Entry,
    Snapshot,
    class_of,
    of_fields,
    of_identity,
    of_run,
    stage_of,
)
from continuum.planning.folder_state import FolderState
from continuum.runs.artifacts import Artifact, TokenizedDataset
from continuum.runs.fingerprint import fingerprint_of_json
from continuum.runs.folder import ExperimentFolder, StageRun
from continuum.runs.records import StageRecord, with_sequences

OWN = ""
"""The part of a run's fields that are its own stage's."""
MAX_GENERATIONS = 16
"""Ancestors whose fields are compared: a chain of a thousand stages has a thousand."""
_SEEDS = ("seed", "seeds")


class FolderRecords:
    """The records of one folder, each read once."""

    def __init__(self, folder: ExperimentFolder, fields: "FieldReader") -> None:
        self._folder, self._fields = folder, fields
        self._records: dict[str, StageRecord | None] = {}
        self._datasets: dict[str, TokenizedDataset | None] = {}
        self._without_seeds: dict[str, str] = {}
        self._parts: dict[str, Snapshot] = {}
        self.owner = folder.owner()

    def parts(self, run: StageRun, record: StageRecord) -> dict[str, Snapshot]:
        """The fields of a run, and those of its ancestors by stage; without seeds of training."""
        above = {name: self._part(name, used) for name, used in self._ancestors(record).items()}
        return {OWN: {**self._snapshot(record), **_chosen_precision(run)}, **above}

    def seeds(self, record: StageRecord) -> dict[str, int]:
        """The seeds of training by name, those of ancestors as `STAGE.NAME`."""
        found = dict(_training_seeds(record))
        for name, run in self._ancestors(record).items():
            above = self._record(run)
            if above is not None and trains(above.kind):
                found |= {f"{name}.{seed}": value for seed, value in _training_seeds(above)}
        return found

    def dataset(self, run: str) -> TokenizedDataset | None:
        """The dataset that a run made; None if it is another artifact, or cannot be read."""
        if run not in self._datasets:
            found = None
            record = self._record(run)
            if record is not None and not trains(record.kind):
                found = _artifact_of(self._folder.run_named(run))
            self._datasets[run] = found if isinstance(found, TokenizedDataset) else None
        return self._datasets[run]

    def _record(self, run: str) -> StageRecord | None:
        if run not in self._records:
            try:
                self._records[run] = self._folder.run_named(run).record()
            except IntegrityError:
                self._records[run] = None
        return self._records[run]

    def _ancestors(self, record: StageRecord) -> dict[str, str]:
        """The runs that a run was made from, by their stages, nearest first."""
        found: dict[str, str] = {}
        generation = [record]
        for _ in range(MAX_GENERATIONS):
            above: list[StageRecord] = []
            for used in (used for it in generation for used in it.inputs):
                parent = self._record(used.run)
                name = parent.name if parent is not None else used.ref.partition("@")[0]
                if name not in found:
                    found[name] = used.run
                    above += [parent] if parent is not None else []
            generation = above
        return found

    def _part(self, name: str, run: str) -> Snapshot:
        """What an ancestor's result depends on; only its name in `runs/` if it was removed."""
        if run not in self._parts:
            record = self._record(run)
            if record is None:
                self._parts[run] = {("input", name): Entry(run)}
            else:
                kept = self._snapshot(record).items()
                self._parts[run] = {key: it for key, it in kept if it.role == "identity"}
        return self._parts[run]

    def _snapshot(self, record: StageRecord) -> Snapshot:
        return of_run(record, self._fields.read(record))

    def fingerprint_without_seeds(self, name: str, record: StageRecord) -> str:
        """The fingerprint of a run without the seeds of training, here and above."""
        self._records[name] = record
        entered, waiting = set[str](), [(name, False)]
        while waiting:
            run, is_after_inputs = waiting.pop()
            it = self._record(run)
            if it is None:
                continue
            if is_after_inputs:
                known = self._without_seeds
                inputs = {used.fingerprint: used.run for used in it.inputs}
                inputs = {own: known.get(above, own) for own, above in inputs.items()}
                known[run] = _fingerprint_without_seeds(it, inputs)
            elif run not in self._without_seeds and run not in entered:
                entered.add(run)
                waiting += [(run, True), *((used.run, False) for used in it.inputs)]
        return self._without_seeds[name]


class FieldReader:
    """Reads the fields of recorded stages, without the seeds of training.

    The runs of a sweep share most values, and rebuilding a stage to read them takes long: a stage
    is rebuilt for the values that no other had.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], Snapshot] = {}

    def read(self, record: StageRecord) -> Snapshot:
        """The fields of a record; none if this release cannot read them."""
        cls = class_of(record.kind)
        if cls is None:
            return {}
        spec = with_sequences(record.spec, record.recipe)
        names = [info.alias or name for name, info in cls.model_fields.items()]
        names = [name for name in names if not (cls.trains and name in _SEEDS)]
        keys = {
            name: (record.kind, name, json.dumps(spec[name]) if name in spec else "")
            for name in names
        }
        unknown = [name for name, key in keys.items() if key not in self._known]
        if unknown:
            stage = stage_of(record)
            if stage is None:
                return {}
            found: dict[str, dict[tuple[str, str], Entry]] = {name: {} for name in unknown}
            for key, entry in of_fields(stage, unknown).items():
                found[key[1].partition(".")[0]][key] = entry
            self._known |= {keys[name]: entries for name, entries in found.items()}
        return {key: it for name in names for key, it in self._known[keys[name]].items()}


def _fingerprint_without_seeds(record: StageRecord, inputs: Mapping[str, str]) -> str:
    """The identity without seeds, hashed.

    Args:
        inputs: Those of the inputs, by fingerprint.
    """
    payload = record.identity
    if trains(record.kind):
        payload = {**_without_seeds(payload), "stage": _without_seeds(payload.get("stage", {}))}
    if all(own == used for own, used in inputs.items()) and payload is record.identity:
        return record.fingerprint
    return fingerprint_of_json(_replaced(payload, inputs))


def _replaced(value: Any, by: Mapping[str, str]) -> Any:
    """A JSON value with other strings."""
    if isinstance(value, dict):
        return {key: _replaced(item, by) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, by) for item in value]
    return by.get(value, value) if isinstance(value, str) else value


def _without_seeds(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in _SEEDS}


def _seedless(fields: Snapshot) -> Snapshot:
    return {key: it for key, it in fields.items() if key[1].partition(".")[0] not in _SEEDS}


def trains(kind: str) -> bool:
    """Whether a kind of stage trains a model; False for an unknown kind."""
    cls = class_of(kind)
    return cls is not None and cls.trains


def _training_seeds(record: StageRecord) -> Iterable[tuple[str, int]]:
    if record.seeds is None:
        return (("seed", record.seed),) if record.seed is not None else ()
    return record.seeds.items()


def _chosen_precision(run: StageRun) -> Snapshot:
    """The precision that `auto` became, if it is known."""
    with suppress(IntegrityError):
        precision = run.precision()
        return {} if precision is None else {("field", "precision"): Entry(precision)}
    return {}


def planned_fields(state: FolderState, name: str) -> Snapshot:
    """The fields of a stage that has not begun."""
    it = state.identities[name]
    return _seedless(of_identity(it)) if it.stage.trains else of_identity(it)


def planned_ancestors(state: FolderState, name: str) -> dict[str, Snapshot]:
    """The parts of a stage that has not begun, of the stages as they are planned."""
    found: dict[str, Snapshot] = {}
    generation = [name]
    for _ in range(MAX_GENERATIONS):
        refs = (ref for above in generation for ref in state.identities[above].refs)
        generation = [it for it in dict.fromkeys(ref.stage for ref in refs) if it not in found]
        for above in generation:
            kept = planned_fields(state, above).items()
            found[above] = {key: entry for key, entry in kept if entry.role == "identity"}
    return found


def _artifact_of(run: StageRun) -> Artifact | None:
    try:
        return run.artifact()
    except IntegrityError:
        return None
