"""The lineage of runs that `continuum prune` has removed."""

from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from continuum.lineage.graph import Edge, Graph, Node
from continuum.runs.files import append_json_line, read_json_lines
from continuum.runs.folder import ExperimentFolder


class RemovedRun(BaseModel):
    """A line of `runs/.removed.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    """From its nodes to others."""


def remember_removed(folder: ExperimentFolder, graph: Graph, names: Iterable[str]) -> None:
    """Record the nodes and edges of runs that are about to be removed."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for name in names:
        own = {node.id: node for node in graph.nodes if _run_of(node) == name}
        nodes = [
            node.model_copy(update={"is_current": False, "facts": {**node.facts, "removed": now}})
            for node in own.values()
        ]
        edges = [edge for edge in graph.edges if edge.source in own]
        line = RemovedRun(run=name, nodes=tuple(nodes), edges=tuple(edges))
        append_json_line(folder.removed_path, line.model_dump(mode="json"))


def removed_runs(folder: ExperimentFolder) -> dict[str, RemovedRun]:
    """The removed runs by name, without those that exist again.

    Raises:
        IntegrityError: a line of `runs/.removed.jsonl` is not valid.
    """
    found = (
        RemovedRun.model_validate(line) for line in read_json_lines(folder.removed_path, key="run")
    )
    return {it.run: it for it in found if not folder.run_named(it.run).is_begun}


def _run_of(node: Node) -> str:
    return (node.path or "").removeprefix("runs/").partition("/")[0]
