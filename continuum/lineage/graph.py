"""The ancestry graph of an experiment folder: redrawn from the records, never edited.

Nodes are sources, corpora, tokenizers, datasets, training checkpoints, weights, and the runs that
made them. Edges say `used` (a run read it), `generated` (a run made it) and `derived` (a model
came from a model). A node's identity is its run folder and, for a checkpoint, its step.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from continuum.artifacts import Artifact, Checkpoint, Corpus, TrainingCheckpoint
from continuum.best import best_step
from continuum.errors import IntegrityError
from continuum.fields import BEST, FINAL, VALIDATION_LOSS
from continuum.files import write_json
from continuum.plan import Plan
from continuum.records import SavedCheckpoint, StageRecord
from continuum.runs import ExperimentFolder, StageRun

SCHEMA = "continuum.lineage/1"


class Node(BaseModel):
    """A thing that was made or used, or the run that made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    type: str
    """`run`, or the artifact's noun: corpus, tokenizer, tokenized dataset, …"""
    stage: str
    sha256: str | None = None
    path: str | None = None
    """Relative to the experiment folder."""
    is_current: bool
    """Whether the experiment as it stands now leads to it."""
    facts: dict[str, Any] = {}


class Edge(BaseModel):
    """How two nodes hang together: `source` used, generated, or derived from `target`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    relation: Literal["used", "generated", "derived"]
    target: str


class Graph(BaseModel):
    """All nodes and edges, sorted by their names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def node(self, node_id: str) -> Node:
        """The node of this identity."""
        return next(node for node in self.nodes if node.id == node_id)

    def find(self, name: str) -> list[Node]:
        """Nodes a person may mean: by identity, stage, a selector, or a digest's beginning."""
        exact = [node for node in self.nodes if node.id == name]
        return exact or [n for n in self.nodes if n.type != "run" and _is_meant(n, name)]

    def parents(self, node_id: str) -> list[tuple[str, Node]]:
        """What a made thing came from, with the relation: its models first, then its data."""
        made_by = {e.target: e.source for e in self.edges if e.relation == "generated"}
        derived = [e.target for e in self.edges if e.source == node_id and e.relation == "derived"]
        run = made_by.get(node_id)
        used = [e.target for e in self.edges if e.source == run and e.relation == "used"]
        return [
            *(("derived", self.node(target)) for target in derived),
            *(("used", self.node(target)) for target in used if target not in derived),
        ]


def build_graph(folder: ExperimentFolder, plan: Plan) -> Graph:
    """Read every record below the folder into one graph."""
    current = {planned.run.name for planned in plan}
    nodes: dict[str, Node] = {}
    edges: set[Edge] = set()
    for run in folder.runs():
        try:
            record = run.record()
        except IntegrityError:
            continue  # A folder that is not ours is no part of the ancestry.
        for node in _nodes_of(run, record, run.name in current):
            nodes[node.id] = node
        edges |= set(_edges_of(run, record))
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


def _is_meant(node: Node, name: str) -> bool:
    stage, _, selector = name.partition("@")
    if node.stage == stage and selector:
        return selector in _selectors(node)
    is_main = node.type != "source" and node.facts.get("is_final", True)
    if node.stage == name:
        return bool(is_main and node.is_current)
    return len(name) >= 6 and (node.sha256 or "").startswith(name)


def _selectors(node: Node) -> Iterator[str]:
    """All that a spec may write behind the `@` to mean this checkpoint."""
    yield f"step-{node.facts.get('step')}"
    if node.facts.get("is_final"):
        yield FINAL
    for metric in node.facts.get("best_by", ()):
        yield f"{BEST}:{metric}"
        if metric == VALIDATION_LOSS:
            yield BEST


def _nodes_of(run: StageRun, record: StageRecord, is_current: bool) -> Iterator[Node]:
    path = f"runs/{run.name}"
    common = {"stage": record.name, "is_current": is_current}
    yield Node(id=f"run:{run.name}", type="run", path=path, facts=_run_facts(run, record), **common)
    artifact = _artifact_of(run)
    for saved in run.checkpoints():
        is_final = isinstance(artifact, Checkpoint) and saved.manifest.step == artifact.step
        yield Node(
            id=_checkpoint_id(run, saved.manifest.step),
            type=TrainingCheckpoint.noun,
            sha256=saved.manifest.digest,
            path=f"{path}/checkpoints/{saved.path.name}",
            facts={
                **_checkpoint_facts(saved),
                "is_final": is_final,
                **_best_facts(saved, record, artifact),
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
            id=f"{run.name}/{item.file}",
            type="source",
            sha256=item.sha256,
            path=f"{path}/output/{item.file}",
            facts={"source": item.source, "size_bytes": item.size_bytes},
            **common,
        )


def _edges_of(run: StageRun, record: StageRecord) -> Iterator[Edge]:
    run_id = f"run:{run.name}"
    made = [_checkpoint_id(run, c.manifest.step) for c in run.checkpoints()]
    artifact = _artifact_of(run)
    if artifact is not None and not isinstance(artifact, TrainingCheckpoint):
        made.append(run.name)
    for item in artifact.items if isinstance(artifact, Corpus) else ():
        yield Edge(source=run_id, relation="used", target=f"{run.name}/{item.file}")
    for node_id in made:
        yield Edge(source=run_id, relation="generated", target=node_id)
    for used in record.inputs:
        parent = StageRun(run.path.parent / used.run)
        parent_id, is_model = _input_id(parent, used.digest)
        yield Edge(source=run_id, relation="used", target=parent_id)
        if is_model:
            for node_id in made:
                yield Edge(source=node_id, relation="derived", target=parent_id)


def _input_id(parent: StageRun, digest: str) -> tuple[str, bool]:
    """The node of an input, and whether it is a model."""
    for saved in parent.checkpoints():
        if saved.manifest.digest == digest:
            return _checkpoint_id(parent, saved.manifest.step), True
    return parent.name, isinstance(_artifact_of(parent), Checkpoint)


def _artifact_of(run: StageRun) -> Artifact | None:
    """What the run made; None where that is nothing yet, or is not readable any more."""
    try:
        return run.artifact() if run.is_complete else None
    except IntegrityError:
        return None


def _checkpoint_id(run: StageRun, step: int) -> str:
    return f"{run.name}@step-{step}"


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
    }


def _checkpoint_facts(saved: SavedCheckpoint) -> dict[str, Any]:
    manifest = saved.manifest
    return {
        "step": manifest.step,
        "tokens_seen": manifest.tokens_seen,
        "tokens_total": manifest.tokens_total,
        "metrics": manifest.metrics,
        "world_size": manifest.world_size,
    }


def _best_facts(
    saved: SavedCheckpoint, record: StageRecord, artifact: Artifact | None
) -> dict[str, Any]:
    """By which metrics a finished run's checkpoint is the one that `@best` selects."""
    if not isinstance(artifact, TrainingCheckpoint):
        return {}
    step = saved.manifest.step
    best_by = [m for m in record.best_metrics if best_step(artifact.metrics, m) == step]
    return {"best_by": best_by} if best_by else {}


def _artifact_facts(artifact: Artifact) -> dict[str, Any]:
    wanted = ("step", "tokens_seen", "tokens_total", "repo", "commit", "num_ids", "backend")
    facts = {name: getattr(artifact, name) for name in wanted if hasattr(artifact, name)}
    facts |= {"summary": artifact.summary()}
    return {name: value for name, value in facts.items() if value is not None}
