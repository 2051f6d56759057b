"""Draw the ancestry graph from the records of an experiment folder: it is never edited."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum.artifacts import (
    Artifact,
    Checkpoint,
    Corpus,
    CorpusItem,
    DataPosition,
    TokenizedDataset,
    TrainingCheckpoint,
)
from continuum.best import best_of, best_step
from continuum.errors import IntegrityError
from continuum.files import write_json
from continuum.lineage.graph import Edge, Graph, Node
from continuum.plan import Plan, PlannedStage
from continuum.records import CheckpointManifest, InputRecord, SavedCheckpoint, StageRecord
from continuum.runs import ExperimentFolder, StageRun

SCHEMA = "continuum.lineage/1"


def build_graph(folder: ExperimentFolder, plan: Plan) -> Graph:
    """Read every record below the folder into one graph."""
    return _graph_of(folder.runs(), plan)


def build_ancestry(plan: Plan) -> Graph:
    """The graph of what the experiment leads to now and of all it came from, and no other run."""
    waiting = [planned.run for planned in plan if planned.run.is_begun]
    found: dict[str, StageRun] = {}
    while waiting:
        run = waiting.pop()
        if run.name not in found:
            found[run.name] = run
            record = _record_of(run)
            used = record.inputs if record is not None else ()
            waiting += (StageRun(run.path.parent / item.run) for item in used)
    return _graph_of([found[name] for name in sorted(found)], plan)


def _graph_of(runs: Iterable[StageRun], plan: Plan) -> Graph:
    current = {planned.run.name: planned for planned in plan}
    nodes: dict[str, Node] = {}
    read: dict[str, _RunRead] = {}
    for run in runs:
        try:
            record, artifact = _whole(run)
            checkpoints = run.checkpoints()
        except IntegrityError as error:
            node = _damaged(run, str(error), is_current=run.name in current)
            nodes[node.id] = node
        else:
            made = _nodes_of(run, record, checkpoints, artifact, current.get(run.name))
            nodes |= {node.id: node for node in made}
            read[run.name] = _RunRead.of(run, record, checkpoints, artifact)
    nodes = _with_epochs(nodes)
    edges = {edge for run in read.values() for edge in _edges_of(run, read)}
    return Graph(
        experiment=plan.experiment.name,
        nodes=tuple(nodes[key] for key in sorted(nodes)),
        edges=tuple(
            sorted(
                (e for e in edges if e.source in nodes and e.target in nodes),
                key=lambda e: (e.source, e.relation, e.target),
            )
        ),
    )


@dataclass(frozen=True)
class _RunRead:
    """What the edges of a run need: small, since a folder may have 100,000 checkpoints."""

    name: str
    checkpoints: Sequence[tuple[str, str]]
    """The digest of each and the identity of its node, oldest first."""
    artifact: str | None
    """Of what else it made."""
    is_model: bool
    """Whether that is one."""
    sources: Sequence[str]
    inputs: Sequence[InputRecord]

    @staticmethod
    def of(
        run: StageRun,
        record: StageRecord,
        checkpoints: Sequence[SavedCheckpoint],
        artifact: Artifact | None,
    ) -> "_RunRead":
        is_other = artifact is not None and not isinstance(artifact, TrainingCheckpoint)
        items = artifact.items if isinstance(artifact, Corpus) else ()
        return _RunRead(
            name=run.name,
            checkpoints=[(c.manifest.digest, _checkpoint_id(run, c)) for c in checkpoints],
            artifact=run.name if is_other else None,
            is_model=isinstance(artifact, Checkpoint),
            sources=[_source_id(run, item) for item in items],
            inputs=record.inputs,
        )

    def input_id(self, digest: str) -> tuple[str, bool]:
        """The node that another run used, and whether it is a model."""
        chosen = next((node_id for own, node_id in self.checkpoints if own == digest), None)
        return (self.name, self.is_model) if chosen is None else (chosen, True)


def write_lineage(folder: ExperimentFolder, plan: Plan) -> None:
    """Write `lineage.json` if the graph has changed."""
    document = {"schema": SCHEMA, **build_graph(folder, plan).model_dump(mode="json")}
    if _read(folder.lineage_path) != document:
        write_json(folder.lineage_path, document)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _nodes_of(
    run: StageRun,
    record: StageRecord,
    checkpoints: Sequence[SavedCheckpoint],
    artifact: Artifact | None,
    planned: PlannedStage | None,
) -> Iterator[Node]:
    """The nodes of a run, which go by the name that its stage has now, if it has one."""
    path = f"runs/{run.name}"
    name = planned.name if planned is not None else record.name
    common: dict[str, Any] = {"stage": name, "is_current": planned is not None}
    best = _best_steps(run, record, artifact, planned)
    yield Node(id=f"run:{run.name}", type="run", path=path, facts=_run_facts(run, record), **common)
    for saved in checkpoints:
        is_final = isinstance(artifact, Checkpoint) and saved.manifest.step == artifact.step
        yield Node(
            id=_checkpoint_id(run, saved),
            type=TrainingCheckpoint.noun,
            sha256=saved.manifest.digest,
            path=f"{path}/checkpoints/{saved.path.name}",
            facts={
                **_checkpoint_facts(saved),
                "is_final": is_final,
                **_best_facts(saved, best),
            },
            **common,
        )
    if artifact is None or isinstance(artifact, TrainingCheckpoint):
        return
    yield Node(
        id=run.name,
        type=type(artifact).noun,
        sha256=artifact.digest,
        path=f"{path}/{artifact.path.relative_to(run.path).as_posix()}",
        facts=_artifact_facts(artifact),
        **common,
    )
    for item in artifact.items if isinstance(artifact, Corpus) else ():
        yield Node(
            id=_source_id(run, item),
            type="source",
            sha256=item.sha256,
            path=f"{path}/output/{item.file}",
            facts={"source": item.source, "size_bytes": item.size_bytes},
            **common,
        )


def _edges_of(run: _RunRead, read: Mapping[str, _RunRead]) -> Iterator[Edge]:
    """The edges of one run; an input whose run cannot be read has none."""
    run_id = f"run:{run.name}"
    made = [node_id for _, node_id in run.checkpoints]
    made += [run.artifact] if run.artifact else []
    for source in run.sources:
        yield Edge(source=run_id, relation="used", target=source)
    for node_id in made:
        yield Edge(source=run_id, relation="generated", target=node_id)
    for used in run.inputs:
        if used.run not in read:
            continue
        parent_id, is_model = read[used.run].input_id(used.digest)
        yield Edge(source=run_id, relation="used", target=parent_id)
        if is_model:
            for node_id in made:
                yield Edge(source=node_id, relation="derived", target=parent_id)


def _with_epochs(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The nodes, where each model says how often it has read each dataset, by the dataset's name.

    A dataset that is not among the nodes is called by the beginning of its digest.
    """
    datasets = [node for node in nodes.values() if node.type == TokenizedDataset.noun]
    datasets.sort(key=lambda node: node.is_current)  # the last of equal ones gives the name
    names = {node.sha256: node.stage for node in datasets}
    found = dict(nodes)
    for key, node in nodes.items():
        if (read := node.facts.get("data_read")) is not None:
            epochs = {
                names.get(digest, digest[:12]): round(position["passes"], 3)
                for digest, position in read.items()
            }
            found[key] = node.model_copy(update={"facts": {**node.facts, "epochs": epochs}})
    return found


def _data_read(read: Mapping[str, DataPosition] | None) -> dict[str, Any]:
    """Where training stands in each dataset, if that is known."""
    if read is None:
        return {}
    return {"data_read": {digest: position.model_dump() for digest, position in read.items()}}


def _record_of(run: StageRun) -> StageRecord | None:
    """The run's record; None for a folder that is not ours and so no part of the ancestry."""
    try:
        return run.record()
    except IntegrityError:
        return None


def _whole(run: StageRun) -> tuple[StageRecord, Artifact | None]:
    """The run's record and what it made, if anything yet.

    Raises:
        IntegrityError: a record is not as it was written, so that nothing in it is to be believed.
    """
    record, artifact = run.record(), run.artifact() if run.is_complete else None
    for name, how in run.changed_records():
        raise IntegrityError(f"{run.path / name} {how}")
    return record, artifact


def _damaged(run: StageRun, problem: str, *, is_current: bool) -> Node:
    """What can be said of a run whose records are not as they were written."""
    return Node(
        id=f"run:{run.name}",
        type="run",
        stage=run.stage_name,
        path=f"runs/{run.name}",
        is_current=is_current,
        facts={"damage": problem.replace(f"{run.experiment_folder}/", "")},
    )


def _checkpoint_id(run: StageRun, saved: SavedCheckpoint) -> str:
    return f"{run.name}@step-{saved.manifest.step}"


def _source_id(run: StageRun, item: CorpusItem) -> str:
    return f"{run.name}/{item.file}"


def _run_facts(run: StageRun, record: StageRecord) -> dict[str, Any]:
    resolved = run.resolved()
    return {
        "kind": record.kind,
        "fingerprint": record.fingerprint,
        "num_attempts": run.num_attempts,
        "is_complete": run.is_complete,
        "git": record.provenance.get("git"),
        "versions": record.provenance.get("versions", {}),
        "device": resolved.get("device"),
        "precision": resolved.get("precision"),
        **({"leaks": record.leaks} if record.leaks else {}),
    }


def _checkpoint_facts(saved: SavedCheckpoint) -> dict[str, Any]:
    manifest = saved.manifest
    return {
        "step": manifest.step,
        "tokens_seen": manifest.tokens_seen,
        "tokens_total": _total(manifest.tokens_total, is_known=manifest.tokens_total_known),
        **_skipped(manifest),
        "metrics": manifest.metrics,
        "world_size": manifest.world_size,
        **_data_read(manifest.data_read),
    }


def _total(tokens: int, *, is_known: bool) -> int | dict[str, int]:
    """Training tokens of an ancestry, as JSON."""
    return tokens if is_known else {"at_least": tokens}


def _skipped(model: CheckpointManifest | Checkpoint) -> dict[str, int]:
    """Steps that were not taken and their tokens, where there are any."""
    if not model.skipped_steps:
        return {}
    return {"skipped_steps": model.skipped_steps, "skipped_tokens": model.skipped_tokens or 0}


def _best_steps(
    run: StageRun, record: StageRecord, artifact: Artifact | None, planned: PlannedStage | None
) -> dict[str, int | None]:
    """Of a finished run: the step that `@best` selects, by each metric that one has asked for."""
    if not isinstance(artifact, TrainingCheckpoint):
        return {}
    found = {metric: best_step(artifact.metrics, metric) for metric in record.best_metrics}
    since = set(planned.best_metrics) - found.keys() if planned is not None else set()
    for metric in sorted(since):
        best = best_of(run.metrics(), metric)
        found[metric] = best_step(artifact.metrics, metric) or (best[1] if best else None)
    return found


def _best_facts(saved: SavedCheckpoint, best: Mapping[str, int | None]) -> dict[str, Any]:
    """By which metrics a finished run's checkpoint is the one that `@best` selects."""
    best_by = [metric for metric, step in best.items() if step == saved.manifest.step]
    return {"best_by": best_by} if best_by else {}


def _artifact_facts(artifact: Artifact) -> dict[str, Any]:
    wanted = ("step", "tokens_seen", "tokens_total", "repo", "commit", "num_ids", "backend")
    facts = {name: getattr(artifact, name) for name in wanted if hasattr(artifact, name)}
    if isinstance(artifact, Checkpoint):
        total = _total(artifact.tokens_total, is_known=artifact.has_known_total)
        facts |= {"tokens_total": total, **_skipped(artifact)}
    facts |= {"summary": artifact.summary()}
    facts |= _data_read(artifact.data_read) if isinstance(artifact, Checkpoint) else {}
    return {name: value for name, value in facts.items() if value is not None}
