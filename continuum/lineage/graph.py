"""The ancestry graph of an experiment folder; `reading` builds it from the records.

Nodes are sources, corpora, tokenizers, datasets, training checkpoints, weights, and the runs that
made them. Edges are `used` (a run read it), `generated` (a run made it) and `derived` (a model
from a model). The ID of a node is its run folder and, for a checkpoint, its step.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from continuum.runs.artifacts import BEST, FINAL, VALIDATION_LOSS

MISSING = "missing"
"""The type of an input whose run folder does not exist."""


class Node(BaseModel):
    """An artifact, a source, or a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    type: str
    """`run`, `missing`, or the artifact's noun: corpus, tokenizer, tokenized dataset, …"""
    stage: str
    sha256: str | None = None
    path: str | None = None
    """Relative to the experiment folder."""
    is_current: bool
    """Whether the current spec leads to it."""
    facts: dict[str, Any] = {}


class Edge(BaseModel):
    """A relation between nodes: `source` used, generated, or is derived from `target`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    relation: Literal["used", "generated", "derived"]
    target: str


class Graph(BaseModel):
    """All nodes and edges, sorted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def node(self, node_id: str) -> Node:
        """The node with this ID."""
        return self._by_id[node_id]

    def find(self, name: str) -> list[Node]:
        """Find nodes by ID, stage, selector, or a prefix of the digest."""
        exact = [node for node in self.nodes if node.id == name]
        return exact or [n for n in self.nodes if n.type != "run" and _matches(n, name)]

    def parents(self, node_id: str) -> list[tuple[str, Node]]:
        """The nodes that an artifact came from, with the relation: models first, then data."""
        derived = self._targets.get((node_id, "derived"), [])
        used = self._targets.get((self._made_by.get(node_id, ""), "used"), [])
        return [
            *(("derived", self.node(target)) for target in derived),
            *(("used", self.node(target)) for target in used if target not in derived),
        ]

    def ancestry(self, roots: Iterable[str]) -> "Graph":
        """The subgraph of these nodes, all their ancestors, and the runs that made them."""
        found, waiting = set[str](), list(roots)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                maker = self._made_by.get(node)
                waiting += [parent.id for _, parent in self.parents(node)]
                waiting += [maker] if maker is not None else []
        return Graph(
            experiment=self.experiment,
            nodes=tuple(node for node in self.nodes if node.id in found),
            edges=tuple(it for it in self.edges if it.source in found and it.target in found),
        )

    @cached_property
    def _by_id(self) -> dict[str, Node]:
        return {node.id: node for node in self.nodes}

    @cached_property
    def _made_by(self) -> dict[str, str]:
        return {e.target: e.source for e in self.edges if e.relation == "generated"}

    @cached_property
    def _targets(self) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for edge in self.edges:
            found.setdefault((edge.source, edge.relation), []).append(edge.target)
        return found


def _matches(node: Node, name: str) -> bool:
    stage, _, selector = name.partition("@")
    if node.stage == stage and selector:
        return selector in _selectors(node)
    is_main = node.type != "source" and node.facts.get("is_final", True)
    if node.stage == name:
        return bool(is_main and node.is_current)
    return len(name) >= 6 and (node.sha256 or "").startswith(name)


def _selectors(node: Node) -> Iterator[str]:
    """The selectors after `@` that a spec may use for this checkpoint."""
    yield f"step-{node.facts.get('step')}"
    if node.facts.get("is_final"):
        yield FINAL
    for metric in node.facts.get("best_by", ()):
        yield f"{BEST}:{metric}"
        if metric == VALIDATION_LOSS:
            yield BEST
