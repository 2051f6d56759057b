"""What a report of an experiment says, from the records of its folder, in any format."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from continuum.errors import IntegrityError
from continuum.formatting import format_bytes, format_flops, format_seconds, short_digest
from continuum.lineage.graph import Graph, Node
from continuum.loading.compose import Composition, read_bases
from continuum.planning.changes import ABSENT, Change
from continuum.planning.costs import known_figures
from continuum.planning.inventory import RunInfo, newest_other_runs
from continuum.planning.plan import Action, Plan, PlannedStage
from continuum.reporting.curves import Training, read_trainings
from continuum.reporting.results import (
    Matrix,
    Sample,
    make_matrix,
    read_samples,
    read_scores,
)
from continuum.runs.artifacts import Checkpoint, TrainingCheckpoint
from continuum.runs.folder import StageRun
from continuum.runs.installed import own_version
from continuum.runs.records import StageRecord
from continuum.runs.redaction import masked, without_secrets

COMPLETE, NOT_BEGUN, RUNNING = "complete", "not begun", "running"
MAX_OTHER_RUNS = 50
"""More runs of earlier specs are counted, not listed."""
MAX_MESSAGE = 2_000
"""Letters of an error message."""
BEST = "best/"


@dataclass(frozen=True)
class Attempt:
    """An attempt to run a stage."""

    number: int
    started_at: str
    status: str
    """How it ended; `no end recorded` if it was killed, or runs."""
    message: str
    seconds: float | None
    """None if its end is not recorded."""

    @property
    def time(self) -> str:
        """The seconds as text."""
        return "" if self.seconds is None else format_seconds(self.seconds)


@dataclass(frozen=True)
class StageReport:
    """A stage, its run and what that cost."""

    name: str
    kind: str
    state: str
    """`complete`, `not begun`, `blocked`, `damaged`, `running`, `interrupted`, or the status that
    its last attempt ended with."""
    notes: tuple[str, ...]
    """Why it is not complete, or what is to be known about its result."""
    result: str
    run: str | None
    """Name of its folder below `runs/`; None if it has not begun."""
    inputs: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    figures: Mapping[str, float]
    """Those that are known of `seconds`, `tokens`, `tokens_per_s`, `flops`, `disk_bytes` and
    `memory_bytes`."""
    device: str
    """`cuda x 8, bf16-mixed`; empty for a stage that does not train."""
    digest: str | None
    fingerprint: str
    metrics: Mapping[str, float]
    """The last and the best losses of a complete training."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Of its result in the lineage."""

    @property
    def is_complete(self) -> bool:
        return self.state == COMPLETE

    def cell(self, name: str) -> str:
        """A figure as text; empty if it is unknown."""
        value = self.figures.get(name)
        return "" if value is None else FIGURES[name](value)


def _count(value: float) -> str:
    return f"{value:,.0f}"


FIGURES: Mapping[str, Any] = {
    "seconds": format_seconds,
    "tokens": _count,
    "tokens_per_s": _count,
    "flops": format_flops,
    "disk_bytes": format_bytes,
    "memory_bytes": format_bytes,
}
SUMMED = ("seconds", "tokens", "flops", "disk_bytes")


class Edge(NamedTuple):
    """A stage and one that is made from it."""

    source: str
    target: str
    selector: str
    """`step-500` or `best`; empty for the final result."""
    are_models: bool


@dataclass(frozen=True)
class SourceFile:
    """The spec or one of its bases, without secrets."""

    name: str
    text: str


@dataclass(frozen=True)
class Loss:
    """The validation losses of a stage on one dataset."""

    stage: str
    dataset: str
    first: float
    last: float
    best: float
    best_step: int


@dataclass(frozen=True)
class Report:
    """An experiment and everything that its folder holds of it."""

    name: str
    description: str
    made_at: str
    """When the report was written, UTC."""
    version: str
    """Of continuum."""
    headline: str
    is_complete: bool
    is_running: bool
    changes: tuple[Change, ...]
    """What the spec changes in its bases."""
    bases: tuple[str, ...]
    files: tuple[SourceFile, ...]
    overrides: tuple[str, ...]
    stages: tuple[StageReport, ...]
    edges: tuple[Edge, ...]
    trainings: tuple[Training, ...]
    losses: tuple[Loss, ...]
    matrix: Matrix | None
    """The evaluations; None if there are none."""
    samples: tuple[Sample, ...]
    environment: tuple[tuple[str, str], ...]
    reproduction: "Reproduction"
    other_runs: tuple["OtherRun", ...]
    """The newest runs that the spec does not lead to."""
    num_other_runs: int

    @property
    def finished(self) -> list[StageReport]:
        """The stages that are complete."""
        return [it for it in self.stages if it.is_complete]

    @property
    def models(self) -> list["Model"]:
        """The results that are models."""
        return [model for model in map(_model, self.stages) if model is not None]

    @property
    def interruptions(self) -> list[tuple[str, Attempt]]:
        """The attempts that did not end well, with their stages."""
        return [(s.name, it) for s in self.stages for it in s.attempts if it.status != "done"]

    @property
    def total(self) -> dict[str, str]:
        """The sums of the figures of all stages, as text."""
        sums: dict[str, str] = {}
        for name in SUMMED:
            known = [it.figures[name] for it in self.stages if name in it.figures]
            if known:
                sums[name] = FIGURES[name](sum(known))
        return sums

    @property
    def has_marks(self) -> bool:
        return any(it.marks for it in self.trainings)


class OtherRun(NamedTuple):
    """A run that the spec does not lead to."""

    name: str
    state: str
    begun: str
    summary: str
    differences: tuple[str, ...]


class Model(NamedTuple):
    """A model among the results, and what it has read."""

    name: str
    tokens: str
    total: str
    epochs: str
    digest: str


def _model(stage: StageReport) -> Model | None:
    facts = stage.facts
    if "tokens_total" not in facts or stage.digest is None:
        return None
    total = facts["tokens_total"]
    in_all = f"at least {total['at_least']:,}" if isinstance(total, dict) else f"{total:,}"
    epochs = ", ".join(f"{number:g} x {name}" for name, number in facts.get("epochs", {}).items())
    digest = short_digest(stage.digest)
    return Model(stage.name, f"{facts.get('tokens_seen', 0):,}", in_all, epochs, digest)


@dataclass(frozen=True)
class Reproduction:
    """How to run the experiment again, and what is known to differ."""

    commands: tuple[str, ...]
    warnings: tuple[str, ...]
    seeds: Mapping[str, int]


def make_report(plan: Plan, composition: Composition, graph: Graph) -> Report:
    """Read the records of an experiment's folder.

    Args:
        composition: Of the spec, for what it changes in its bases.
        graph: The ancestry of the current stages.
    """
    is_running = plan.state.owner is not None
    trainings = read_trainings(plan)
    nodes = {node.stage: node for node in _main_nodes(graph)}
    stages = tuple(
        _stage(planned, trainings.get(planned.name), nodes.get(planned.name)) for planned in plan
    )
    others, num_others = newest_other_runs(plan, MAX_OTHER_RUNS)
    spec, *bases = composition.files
    folder = spec.parent
    return Report(
        name=plan.experiment.name,
        description=without_secrets(plan.experiment.description or ""),
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=own_version(),
        headline=_headline(stages, is_running=is_running),
        is_complete=all(it.is_complete for it in stages),
        is_running=is_running,
        changes=tuple(_base_changes(composition)),
        bases=tuple(_relative(path, folder) for path in bases),
        files=tuple(
            SourceFile(_relative(path, folder), masked(_text(path))) for path in composition.files
        ),
        overrides=tuple(without_secrets(it) for it in plan.request.overrides),
        stages=stages,
        edges=tuple(_edges(plan)),
        trainings=tuple(trainings.values()),
        losses=tuple(_losses(trainings.values())),
        matrix=make_matrix(read_scores(plan)),
        samples=tuple(read_samples(plan)),
        environment=tuple(_environment(plan)),
        reproduction=_reproduction(plan),
        other_runs=tuple(map(_other, others)),
        num_other_runs=num_others,
    )


def _other(it: RunInfo) -> OtherRun:
    begun = it.made_at[:19].replace("T", " ")
    return OtherRun(it.run.name, it.state, begun, it.summary, it.differences)


def _main_nodes(graph: Graph) -> Iterator[Node]:
    """The current result of each stage."""
    for node in graph.nodes:
        is_artifact = node.type not in ("run", "source") and node.is_current
        if is_artifact and node.facts.get("is_final", True):
            yield node


def _headline(stages: Sequence[StageReport], *, is_running: bool) -> str:
    num_complete, num = sum(it.is_complete for it in stages), len(stages)
    if num_complete == num:
        return f"Complete: all {num:,} stages have finished." if num > 1 else "Complete."
    done = f"{num_complete:,} of {num:,} stages {'is' if num_complete == 1 else 'are'} complete"
    if is_running:
        return f"Running: {done}."
    if all(it.run is None for it in stages):
        return "Nothing has run yet."
    open_ = [f"{it.name} ({it.state})" for it in stages if not it.is_complete]
    shown = ", ".join(open_[:6]) + (f" and {len(open_) - 6} more" if len(open_) > 6 else "")
    return f"Incomplete: {done}. Not complete: {shown}."


def _stage(planned: PlannedStage, training: Training | None, node: Node | None) -> StageReport:
    run, existing = planned.run, planned.existing
    attempts = tuple(_attempts(run))
    state = planned.state
    artifact = existing.artifact
    metrics = artifact.metrics if isinstance(artifact, TrainingCheckpoint) else {}
    return StageReport(
        name=planned.name,
        kind=planned.stage.kind,
        state=state.state,
        notes=tuple(map(_clean, _notes(planned))),
        result=artifact.summary() if artifact is not None else _progress(planned, training),
        run=run.name if run.is_begun else None,
        inputs=tuple(map(str, planned.refs)),
        attempts=attempts,
        figures=_figures(planned, training, attempts),
        device=_device(planned),
        digest=artifact.digest if artifact is not None else None,
        fingerprint=planned.fingerprint,
        metrics=metrics,
        facts=node.facts if node is not None else {},
    )


def _notes(planned: PlannedStage) -> Iterator[str]:
    """What a reader has to know to judge the stage."""
    state, record = planned.state, planned.existing.record
    if state.state == COMPLETE:
        if planned.action is not Action.REUSE:
            reasons = "; ".join(map(str, planned.reasons))
            yield f"not up to date: the next run would make it again ({reasons})"
        yield from record.leaks if record is not None else ()
    elif state.state in (NOT_BEGUN, "blocked"):
        yield from (text for text in map(str, planned.reasons) if text != "never run")
    elif state.how and state.state != RUNNING:  # which names a process and a machine
        yield state.how


def _clean(text: str) -> str:
    """A message without secrets, cut off where it is long."""
    return without_secrets(text)[:MAX_MESSAGE]


def _attempts(run: StageRun) -> Iterator[Attempt]:
    try:
        lines = run.attempts()
    except IntegrityError:
        return
    ends = {it["attempt"]: it for it in lines if it["event"] == "ended" and "attempt" in it}
    for line in lines:
        if line["event"] == "started":
            end = ends.get(line["attempt"])
            yield Attempt(
                number=line["attempt"],
                started_at=str(line["at"])[:19].replace("T", " "),
                status=str(end["status"]) if end else "no end recorded",
                message=_clean(str(end.get("message") or "")) if end else "",
                seconds=_seconds(line["at"], end["at"]) if end else None,
            )


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _figures(
    planned: PlannedStage, training: Training | None, attempts: Sequence[Attempt]
) -> dict[str, float]:
    """What the stage has cost so far."""
    found: dict[str, float] = {}
    known = [it.seconds for it in attempts if it.seconds is not None]
    if known:
        found["seconds"] = sum(known)
    if planned.run.is_begun:
        found["disk_bytes"] = planned.run.size_bytes()
    if training is None:
        return found
    found["tokens"] = training.end - training.start
    forecast = known_figures(planned)
    if forecast.get("tokens") and "flops" in forecast:
        found["flops"] = forecast["flops"] * found["tokens"] / forecast["tokens"]
    speed, memory = training.speed(), training.peak_bytes()
    found |= {"tokens_per_s": speed} if speed is not None else {}
    found |= {"memory_bytes": memory} if memory is not None else {}
    return found


def _progress(planned: PlannedStage, training: Training | None) -> str:
    if training is None:
        return ""
    step, total = training.rows[-1]["step"], planned.forecast.num_steps
    loss = next((it.value for it in reversed(training.points("loss"))), None)
    of = f" of {total:,}" if total else ""
    return f"step {step:,}{of}" + (f", loss {loss:.3f}" if loss is not None else "")


def _device(planned: PlannedStage) -> str:
    try:
        chosen = planned.run.resolved()
    except IntegrityError:
        return ""
    if "device" not in chosen:
        return ""
    size = chosen.get("world_size") or 1
    number = f" x {size}" if size > 1 else ""
    return f"{chosen['device']}{number}, {chosen.get('precision')}"


def _edges(plan: Plan) -> Iterator[Edge]:
    for planned in plan:
        makes_model = issubclass(planned.stage.produces, Checkpoint)
        seen = set()
        for ref in planned.refs:
            if ref.stage in plan.stages and ref.stage not in seen:
                seen.add(ref.stage)
                parent = plan.stages[ref.stage].stage
                both = makes_model and issubclass(parent.produces, Checkpoint)
                yield Edge(ref.stage, planned.name, str(ref).partition("@")[2], both)


def _losses(trainings: Iterable[Training]) -> Iterator[Loss]:
    for it in trainings:
        for dataset, column in it.validation.items():
            rated = [
                (row["step"], float(row[column]))
                for row in it.rows
                if isinstance(row.get(column), (int, float))
            ]
            if rated:
                trained = [(step, value) for step, value in rated if step > 0] or rated
                step, best = min(trained, key=lambda pair: pair[1])
                yield Loss(it.stage, dataset, rated[0][1], rated[-1][1], best, step)


def _base_changes(composition: Composition) -> Iterator[Change]:
    """The values that the spec adds to or changes in its bases."""
    bases = read_bases(composition.files[0])
    if bases is None:
        return
    before, after = bases.plain(), composition.written.plain()
    yield from _differing("", before, after)


def _differing(path: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            below = f"{path}.{key}" if path else str(key)
            yield from _differing(below, old.get(key, ABSENT), new.get(key, ABSENT))
    elif old != new:
        yield Change("field", path, _without_places(old), _without_places(new))


def _without_places(value: Any) -> Any:
    """A value of the document whose texts are no longer `Text`, and have no secrets."""
    if isinstance(value, dict):
        return {str(key): _without_places(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [*map(_without_places, value)]
    return without_secrets(str(value)) if isinstance(value, str) else value


def _environment(plan: Plan) -> Iterator[tuple[str, str]]:
    """Versions and machine of the newest run, and where other stages had others."""
    records = [it.existing.record for it in plan if it.existing.record is not None]
    if not records:
        return
    newest = max(records, key=lambda it: it.made_at)
    values: dict[str, dict[str, list[str]]] = {}
    for record in sorted(records, key=lambda it: it is not newest):
        for key, value in _facts(record):
            values.setdefault(key, {}).setdefault(value, []).append(record.name)
    for planned in plan:
        if text := _device(planned):
            values.setdefault("device", {}).setdefault(text, []).append(planned.name)
    for key, by_value in values.items():
        (first, _), *rest = by_value.items()
        others = "".join(f"; {value} in {', '.join(stages)}" for value, stages in rest)
        yield key, first + others


def _facts(record: StageRecord) -> Iterator[tuple[str, str]]:
    # Names of hosts and users are left out: a report is for other people.
    from_, git = record.provenance, record.provenance.get("git")
    yield "Python", str(from_.get("python"))
    yield "platform", str(from_.get("platform"))
    yield "processors", str(from_.get("num_cpus"))
    for name, version in (from_.get("versions") or {}).items():
        if version is not None:
            yield name, str(version)
    own = from_.get("continuum") or {}
    if own.get("commit"):
        yield "continuum's commit", _commit(own)
    yield "commit of the experiment", _commit(git) if git else "not in a Git repository"


def _commit(git: Mapping[str, Any]) -> str:
    dirty = git.get("is_dirty", git.get("dirty"))
    return f"{short_digest(git.get('commit'))}{', with uncommitted changes' if dirty else ''}"


def _reproduction(plan: Plan) -> Reproduction:
    records = [it.existing.record for it in plan if it.existing.record is not None]
    newest = max(records, key=lambda it: it.made_at, default=None)
    commands, warnings = [], []
    git = newest.provenance.get("git") if newest is not None else None
    if git and git.get("commit"):
        commands.append(f"git checkout {git['commit']}")
        if git.get("is_dirty", git.get("dirty")):
            warnings.append("The work tree had uncommitted changes, which that commit lacks.")
    elif newest is not None:
        warnings.append("The experiment was not in a Git repository: keep a copy of its files.")
    version = (newest.provenance.get("versions") or {}).get("continuum") if newest else None
    if version:
        commands.append(f"pip install continuum-lm=={version}")
    overrides = "".join(f" --set {_quoted(it)}" for it in plan.request.overrides)
    name = _quoted(plan.folder.path.name)
    locked = " --locked" if plan.lockfile is not None else ""
    commands.append(f"continuum run {name}{locked}{without_secrets(overrides)}")
    commands.append(f"continuum verify {name}")
    if plan.lockfile is None:
        warnings.append("There is no continuum.lock, which pins what the sources were.")
    seeds = plan.experiment.all_seeds()
    return Reproduction(
        tuple(commands), tuple(warnings), {k: v for k, v in seeds.items() if v is not None}
    )


_PLAIN = re.compile(r"[\w./=-]+")


def _quoted(text: str) -> str:
    """A word of a shell."""
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "'\\''") + "'"


def _relative(path: Path, folder: Path) -> str:
    """The name of a file from the experiment's folder, without this machine's folders."""
    try:
        return path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return path.name


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
