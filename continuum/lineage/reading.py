"""Build the ancestry graph from the records of an experiment folder."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from continuum.errors import IntegrityError
from continuum.lineage.graph import MISSING, Edge, Graph, Node
from continuum.lineage.removed import removed_runs
from continuum.runs.artifacts import (
    Artifact,
    Checkpoint,
    Corpus,
    ModelWeights,
    TokenizedDataset,
    TrainingCheckpoint,
    best_of,
    best_step,
)
from continuum.runs.files import json_text, write_text
from continuum.runs.folder import ExperimentFolder, StageRun
from continuum.runs.records import InputRecord, StageRecord

SCHEMA = "continuum.lineage/1"
FACTS = ("step", "tokens_seen", "metrics", "world_size", "repo", "commit", "num_ids", "backend")
"""Fields of artifacts that become facts unchanged."""
MODELS = frozenset(kind.noun for kind in (Checkpoint, TrainingCheckpoint, ModelWeights))


class CurrentStage(Protocol):
    """A stage of the current spec."""

    @property
    def name(self) -> str: ...
    @property
    def run(self) -> StageRun: ...
    @property
    def best_metrics(self) -> tuple[str, ...]:
        """The metrics by which other stages select its best checkpoint."""


def write_lineage(folder: ExperimentFolder, name: str, stages: Iterable[CurrentStage]) -> None:
    """Write `lineage.json` if the graph has changed; see `build_graph`."""
    document = {"schema": SCHEMA, **build_graph(folder, name, stages).model_dump(mode="json")}
    text, path = json_text(document), folder.lineage_path
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def build_graph(folder: ExperimentFolder, name: str, stages: Iterable[CurrentStage]) -> Graph:
    """Read every record below the folder into one graph.

    Args:
        name: The name of the experiment.
        stages: The stages of the current spec.
    """
    return _graph_of(folder, folder.runs(), name, stages)


def build_ancestry(folder: ExperimentFolder, name: str, stages: Collection[CurrentStage]) -> Graph:
    """The graph of the current stages and all their ancestors, without other runs."""
    waiting = [stage.run for stage in stages if stage.run.is_begun]
    found: dict[str, StageRun] = {}
    while waiting:
        run = waiting.pop()
        if run.name not in found:
            found[run.name] = run
            with suppress(IntegrityError):  # not a run folder, so not part of the ancestry
                waiting += (StageRun(run.path.parent / it.run) for it in run.record().inputs)
    return _graph_of(folder, [found[it] for it in sorted(found)], name, stages)


@dataclass(frozen=True)
class _Made:
    """The data for the edges of a run; small, since a folder may have 100,000 checkpoints."""

    ids: Mapping[str, str]
    """The ID of the node of each artifact, by its digest, checkpoints oldest first."""
    is_model: bool
    sources: Sequence[str]
    inputs: Sequence[InputRecord]

    @classmethod
    def of_nodes(cls, nodes: Iterable[Node]) -> "_Made":
        """The same for a run that does not exist; its nodes already have their edges."""
        made = [node for node in nodes if node.type not in ("run", "source")]
        is_model = any(node.type in MODELS for node in made)
        return cls({node.sha256 or "": node.id for node in made}, is_model, (), ())


def _absent(nodes: Mapping[str, Node], made: Mapping[str, _Made]) -> Iterator[Node]:
    """Inputs of runs that are neither in a run folder nor recorded as removed."""
    for it in made.values():
        for used in it.inputs:
            if used.run not in made and f"run:{used.run}" not in nodes:
                yield Node(
                    id=used.run if used.step is None else f"{used.run}@step-{used.step}",
                    type=MISSING,
                    stage=used.ref.partition("@")[0],
                    sha256=used.digest,
                    is_current=False,
                    facts={"missing": f"runs/{used.run}"},
                )


def _graph_of(
    folder: ExperimentFolder,
    runs: Iterable[StageRun],
    experiment: str,
    stages: Iterable[CurrentStage],
) -> Graph:
    current_stages = {stage.run.name: stage for stage in stages}
    nodes: dict[str, Node] = {}
    made: dict[str, _Made] = {}
    for run in (it for it in runs if it.is_begun):
        current = current_stages.get(run.name)
        try:
            for name, how in run.changed_records():
                raise IntegrityError(f"{run.path / name} {how}")
            record, artifacts = run.record(), run.artifacts()
        except IntegrityError as error:
            facts = {"damage": str(error).replace(f"{run.experiment_folder}/", "")}
            node = _run_node(run, run.stage_name, facts, is_current=current is not None)
            nodes[node.id] = node
        else:
            # A run of a current stage has the name of that stage.
            name = current.name if current is not None else record.name
            found = [*_nodes_of(run, name, record, artifacts, current)]
            nodes |= {node.id: node for node in found}
            made[run.name] = _Made(
                ids={it.digest: _id_of(run, it) for it in artifacts},
                is_model=any(isinstance(it, Checkpoint) for it in artifacts),
                sources=[node.id for node in found if node.type == "source"],
                inputs=record.inputs,
            )
    removed = removed_runs(folder)
    for it in removed.values():
        nodes |= {node.id: node for node in it.nodes}
        made[it.run] = _Made.of_nodes(it.nodes)
    for absent in [*_absent(nodes, made)]:
        nodes[absent.id] = absent
        made.setdefault(absent.id.partition("@")[0], _Made.of_nodes([absent]))
    edges = {edge for name in made for edge in _edges_of(name, made)}
    edges |= {edge for it in removed.values() for edge in it.edges}
    complete = (edge for edge in edges if edge.source in nodes and edge.target in nodes)
    nodes = _with_epochs(nodes)
    return Graph(
        experiment=experiment,
        nodes=tuple(nodes[key] for key in sorted(nodes)),
        edges=tuple(sorted(complete, key=lambda edge: (edge.source, edge.relation, edge.target))),
    )


def _nodes_of(
    run: StageRun,
    stage: str,
    record: StageRecord,
    artifacts: Sequence[Artifact],
    current: CurrentStage | None,
) -> Iterator[Node]:
    """A run, its artifacts, and the sources of a corpus."""
    path, is_current = f"runs/{run.name}", current is not None
    yield _run_node(run, stage, _run_facts(run, record), is_current=is_current)
    final = run.artifact() if run.is_complete else None
    best = _best_steps(run, record, final, current)
    for artifact in artifacts:
        facts = _facts(artifact)
        if isinstance(artifact, TrainingCheckpoint):
            facts["is_final"] = final is not None and artifact.digest == final.digest
            best_by = [metric for metric, step in best.items() if step == artifact.step]
            facts |= {"best_by": best_by} if best_by else {}
        yield Node(
            id=_id_of(run, artifact),
            type=type(artifact).noun,
            stage=stage,
            sha256=artifact.digest,
            path=f"{path}/{artifact.path.relative_to(run.path).as_posix()}",
            is_current=is_current,
            facts=facts,
        )
        for item in artifact.items if isinstance(artifact, Corpus) else ():
            yield Node(
                id=f"{run.name}/{item.file}",
                type="source",
                stage=stage,
                sha256=item.sha256,
                path=f"{path}/output/{item.file}",
                is_current=is_current,
                facts={"source": item.source, "size_bytes": item.size_bytes},
            )


def _run_node(run: StageRun, stage: str, facts: dict[str, Any], *, is_current: bool) -> Node:
    path = f"runs/{run.name}"
    return Node(
        id=f"run:{run.name}", type="run", stage=stage, path=path, is_current=is_current, facts=facts
    )


def _id_of(run: StageRun, artifact: Artifact) -> str:
    if isinstance(artifact, TrainingCheckpoint):
        return f"{run.name}@step-{artifact.step}"
    return run.name


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


def _facts(artifact: Artifact) -> dict[str, Any]:
    """The facts about an artifact besides its digest and its path."""
    facts = {name: getattr(artifact, name, None) for name in FACTS}
    if isinstance(artifact, Checkpoint):
        total, is_known = artifact.tokens_total, artifact.has_known_total
        facts["tokens_total"] = total if is_known else {"at_least": total}
        if artifact.skipped_steps:
            facts["skipped_steps"] = artifact.skipped_steps
            facts["skipped_tokens"] = artifact.skipped_tokens or 0
        if artifact.data_read is not None:
            facts["data_read"] = {key: it.model_dump() for key, it in artifact.data_read.items()}
    if not isinstance(artifact, TrainingCheckpoint):
        facts["summary"] = artifact.summary()
    return {name: value for name, value in facts.items() if value is not None}


def _best_steps(
    run: StageRun, record: StageRecord, final: Artifact | None, current: CurrentStage | None
) -> dict[str, int | None]:
    """The step that `@best` selects in a finished run, by each metric that a stage selects by."""
    if not isinstance(final, TrainingCheckpoint):
        return {}
    found = {metric: best_step(final.metrics, metric) for metric in record.best_metrics}
    since = set(current.best_metrics) - found.keys() if current is not None else set()
    for metric in sorted(since):
        best = best_of(run.metrics(), metric)
        found[metric] = best_step(final.metrics, metric) or (best[1] if best else None)
    return found


def _edges_of(name: str, made: Mapping[str, _Made]) -> Iterator[Edge]:
    """The edges of one run, without inputs whose run cannot be read."""
    own, run_id = made[name], f"run:{name}"
    for source in own.sources:
        yield Edge(source=run_id, relation="used", target=source)
    for node_id in own.ids.values():
        yield Edge(source=run_id, relation="generated", target=node_id)
    for used in own.inputs:
        if used.run in made:
            parent = made[used.run]
            parent_id = parent.ids.get(used.digest, used.run)
            yield Edge(source=run_id, relation="used", target=parent_id)
            for node_id in own.ids.values() if parent.is_model else ():
                yield Edge(source=node_id, relation="derived", target=parent_id)


def _with_epochs(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """Add to each model the epochs that it has read of each dataset, by the dataset's name.

    A dataset that is not among the nodes is named by a prefix of its digest.
    """
    datasets = [node for node in nodes.values() if node.type == TokenizedDataset.noun]
    datasets.sort(key=lambda node: node.is_current)  # the last of equal datasets gives the name
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
