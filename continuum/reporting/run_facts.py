"""Facts of training runs, from their records alone: state, fields, seeds, losses, tokens, time."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from continuum.errors import IntegrityError
from continuum.experiment.identity import Identity
from continuum.planning.changes import Entry, Snapshot, of_fields, of_identity, of_run, stage_of
from continuum.planning.costs import tokens_per_s_of
from continuum.planning.folder_state import FolderState
from continuum.reporting.measures import Measure, Readings, measures_of, read_measures
from continuum.runs.artifacts import Artifact, TokenizedDataset, TrainingCheckpoint
from continuum.runs.attempts import AttemptState
from continuum.runs.fingerprint import fingerprint_of_json
from continuum.runs.folder import ExperimentFolder, StageRun
from continuum.runs.records import StageRecord, with_sequences
from continuum.runs.run_state import RunState, read_state
from continuum.stages import stage_kinds

OWN = ""
"""The part of a run's fields that are its own stage's."""
_SEEDS = ("seed", "seeds")
MAX_GENERATIONS = 16
"""Ancestors whose fields are compared: a chain of a thousand stages has a thousand."""
COMPLETE, NOT_BEGUN, DAMAGED = "complete", "not begun", "damaged"


@dataclass(frozen=True)
class RunFacts:
    """A training run, or a stage that has not run."""

    experiment: str
    """As the user named it."""
    stage: str
    kind: str
    run: StageRun | None
    """None for a stage that has not begun."""
    state: str
    """`complete`, `damaged`, `running`, `interrupted`, `not begun`, or how its last attempt
    ended."""
    how: str = ""
    """What is damaged, the process that runs it, or the first line of the error that ended it."""
    made_at: str = ""
    """Start of its last attempt, ISO 8601 in UTC."""
    fingerprint: str = ""
    fingerprint_without_seeds: str = ""
    """Equal for runs that differ only in the seeds of training, their own or their ancestors'."""
    seeds: Mapping[str, int] = field(default_factory=dict)
    """Seeds of training by name, those of ancestors as `STAGE.NAME`."""
    parts: Mapping[str, Snapshot] = field(default_factory=dict)
    """Its own fields, and those of its ancestors by stage; without the seeds of training."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """What it measures, by the name of the column in `metrics.jsonl`."""
    readings: Readings = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    """Those that are known of `steps`, `tokens`, `tokens_total`, `elapsed_s`, `tokens_per_s`."""

    @property
    def run_name(self) -> str | None:
        return self.run.name if self.run is not None else None


class FactsReader:
    """Reads the facts of runs; what several of them share is read once."""

    def __init__(self, at: int | None = None) -> None:
        """Prepare to read.

        Args:
            at: Also read the losses at this number of training tokens.
        """
        self._at = at
        self._folders: dict[str, _Records] = {}
        self._fields = _FieldReader()

    def current(self, experiment: str, state: FolderState, stage: str) -> RunFacts:
        """The run of a stage as the spec has it now."""
        it, then = state.identities[stage], state.runs[stage]
        if not then.is_begun and not then.damage:
            parts = {OWN: _planned(it), **_planned_ancestors(state.identities, it)}
            return RunFacts(experiment, stage, it.stage.kind, None, NOT_BEGUN, parts=parts)
        now = read_state(then.run, state.owner, read_metrics=True)
        now = replace(now, artifact=None, damage=then.damage) if then.damage else now
        return self._facts(experiment, state.folder, now, stage, it.stage.kind)

    def recorded(self, experiment: str, folder: ExperimentFolder, run: StageRun) -> RunFacts:
        """A run by its folder, whether it belongs to a spec or not."""
        state = read_state(run, self._records(folder).owner, read_metrics=True)
        kind = state.record.kind if state.record is not None else ""
        stage = state.record.name if state.record is not None else run.stage_name
        return self._facts(experiment, folder, state, stage, kind)

    def _facts(
        self, experiment: str, folder: ExperimentFolder, it: RunState, stage: str, kind: str
    ) -> RunFacts:
        """The facts of a run that has begun; one that cannot be read is damaged."""
        records = self._records(folder)
        state, how = _state_of(it)
        found = RunFacts(experiment, stage, kind, it.run, state, how)
        if it.record is None:
            return found
        found = records.describe(found, it.record)
        if it.damage:
            return found
        try:
            return self._measured(found, it.record, it.artifact, records)
        except IntegrityError as error:
            return replace(found, state=DAMAGED, how=str(error))

    def _records(self, folder: ExperimentFolder) -> "_Records":
        key = str(folder.path)
        if key not in self._folders:
            self._folders[key] = _Records(folder, self._fields)
        return self._folders[key]

    def _measured(
        self, it: RunFacts, record: StageRecord, made: Artifact | None, records: "_Records"
    ) -> RunFacts:
        assert it.run is not None
        artifact = made if isinstance(made, TrainingCheckpoint) else None
        datasets = {used.ref: records.dataset(used.run) for used in record.inputs}
        measures = measures_of(record, datasets)
        readings = read_measures(it.run, measures, artifact, self._at)
        figures = dict(_figures(it.run, artifact))
        return replace(it, measures=measures, readings=readings, figures=figures)


class _Records:
    """The records of one folder, each read once."""

    def __init__(self, folder: ExperimentFolder, fields: "_FieldReader") -> None:
        self._folder, self._fields = folder, fields
        self._records: dict[str, StageRecord | None] = {}
        self._datasets: dict[str, TokenizedDataset | None] = {}
        self._without_seeds: dict[str, str] = {}
        self._parts: dict[str, Snapshot] = {}
        self.owner = folder.owner()

    def describe(self, it: RunFacts, record: StageRecord) -> RunFacts:
        """The run with what its record and those of its ancestors say."""
        assert it.run is not None
        self._records[it.run.name] = record
        ancestors = self._ancestors(record)
        parts = {name: self._part(name, run) for name, run in ancestors.items()}
        seeds = dict(_training_seeds(record))
        for name, run in ancestors.items():
            above = self._record(run)
            more = _training_seeds(above) if above is not None and trains(above.kind) else ()
            seeds |= {f"{name}.{seed}": value for seed, value in more}
        own = {**self._snapshot(record), **_chosen_precision(it.run)}
        return replace(
            it,
            made_at=record.made_at,
            fingerprint=record.fingerprint,
            fingerprint_without_seeds=self._identity_of(it.run.name),
            seeds=seeds,
            parts={OWN: own, **parts},
        )

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

    def _identity_of(self, name: str) -> str:
        """The fingerprint of a run without the seeds of training, here and above."""
        entered, waiting = set[str](), [(name, False)]
        while waiting:
            run, is_after_inputs = waiting.pop()
            record = self._record(run)
            if record is None:
                continue
            if is_after_inputs:
                known = self._without_seeds
                inputs = {it.fingerprint: known.get(it.run, it.fingerprint) for it in record.inputs}
                known[run] = _fingerprint_without_seeds(record, inputs)
            elif run not in self._without_seeds and run not in entered:
                entered.add(run)
                waiting += [(run, True), *((used.run, False) for used in record.inputs)]
        return self._without_seeds[name]


class _FieldReader:
    """Reads the fields of recorded stages, without the seeds of training.

    The runs of a sweep share most values, and rebuilding a stage to read them takes long: a stage
    is rebuilt for the values that no other had.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], Snapshot] = {}

    def read(self, record: StageRecord) -> Snapshot:
        """The fields of a record; none if this release cannot read them."""
        cls = stage_kinds().get(record.kind)
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


def _state_of(it: RunState) -> tuple[str, str]:
    if it.damage:
        return DAMAGED, it.damage[0]
    if it.artifact is not None:
        return COMPLETE, ""
    attempt = it.attempt or AttemptState(DAMAGED, "attempts.jsonl cannot be read")
    return attempt.state, attempt.how


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
    cls = stage_kinds().get(kind)
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


def _planned(it: Identity) -> Snapshot:
    found = of_identity(it)
    return _seedless(found) if it.stage.trains else found


def _planned_ancestors(identities: Mapping[str, Identity], it: Identity) -> dict[str, Snapshot]:
    """The parts of a stage that has not begun, of the stages as they are planned."""
    found: dict[str, Snapshot] = {}
    generation = [it]
    for _ in range(MAX_GENERATIONS):
        names = dict.fromkeys(ref.stage for above in generation for ref in above.refs)
        generation = [identities[name] for name in names if name not in found]
        for name in (name for name in names if name not in found):
            kept = _planned(identities[name]).items()
            found[name] = {key: entry for key, entry in kept if entry.role == "identity"}
    return found


def _artifact_of(run: StageRun) -> Artifact | None:
    try:
        return run.artifact()
    except IntegrityError:
        return None


def _figures(run: StageRun, artifact: TrainingCheckpoint | None) -> Iterator[tuple[str, float]]:
    last: Mapping[str, Any] = {}
    if artifact is not None:
        last = {"step": artifact.step, "tokens": artifact.tokens_seen}
        last |= {"tokens_total": artifact.tokens_total} if artifact.has_known_total else {}
    else:
        last = next(reversed(run.metrics(having='"lr"')), {})
    for name, column in (("steps", "step"), ("tokens", "tokens"), ("tokens_total",) * 2):
        if last.get(column) is not None:
            yield name, last[column]
    if (elapsed_s := _elapsed_s(run)) is not None:
        yield "elapsed_s", elapsed_s
    if (speed := tokens_per_s_of(run)) is not None:
        yield "tokens_per_s", speed


def _elapsed_s(run: StageRun) -> float | None:
    """Seconds of all attempts; one that was killed counts until its last row of metrics.jsonl:
    the next run records that it was, perhaps days later."""
    started: dict[int, str] = {}
    spans: list[tuple[str, str]] = []
    for line in run.attempts():
        if line["event"] == "started":
            started[line["attempt"]] = line["at"]
        elif line["event"] == "ended" and line["status"] != "killed":
            spans += [(started.pop(line["attempt"], line["at"]), line["at"])]
    if started:
        ends = {row["attempt"]: row["at"] for row in run.metrics()}
        spans += [(at, ends[attempt]) for attempt, at in started.items() if attempt in ends]
    times = [[datetime.fromisoformat(at) for at in span] for span in spans]
    return sum((end - start).total_seconds() for start, end in times) if times else None
