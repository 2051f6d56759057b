"""`continuum lineage`: print where a result comes from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from continuum.cli.arguments import Overrides, Spec, open_experiment
from continuum.cli.console import AsJson, Result
from continuum.errors import UsageError
from continuum.formatting import short_digest
from continuum.lineage.graph import Graph, Node
from continuum.lineage.reading import build_ancestry, build_graph
from continuum.suggestions import did_you_mean

MAX_SOURCES = 8
"""More sources of one corpus are counted, not listed."""
MAX_GENERATIONS = 100
"""Depth of the tree; its last line names the node to ask for next."""


def lineage(
    spec: Spec,
    node: Annotated[
        str | None,
        typer.Argument(help="A stage, STAGE@step-N, a node's id, or the start of a SHA-256."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> "Ancestry":
    """Print the ancestry of the results, back to the sources."""
    opened = open_experiment(spec, overrides)
    plan = opened.plan()
    # A checkpoint or a digest may be of an earlier spec, so every run has to be read.
    is_of_now = node is None or node in plan.stages
    name, stages = plan.experiment.name, tuple(plan)
    build = build_ancestry if is_of_now else build_graph
    graph = build(opened.folder, name, stages)
    for damaged in (n for n in graph.nodes if "damage" in n.facts):
        typer.echo(f"warning: skipped {damaged.path}: {damaged.facts['damage']}", err=True)
    return Ancestry(graph, tuple(_wanted(graph, node)))


@dataclass(frozen=True)
class Ancestry(Result):
    """Nodes of the graph, with all their ancestors."""

    schema = "continuum.ancestry/1"
    graph: Graph
    roots: tuple[Node, ...]

    def as_json(self) -> dict[str, Any]:
        """The ancestors of the roots, as in `lineage.json`; `roots` are ids of nodes."""
        above = self.graph.ancestry(root.id for root in self.roots)
        return {"roots": [root.id for root in self.roots], **above.model_dump(mode="json")}

    def parts(self) -> Iterator[Tree]:
        for root in self.roots:
            yield draw(self.graph, root)


def draw(graph: Graph, node: Node) -> Tree:
    """A node, and below it its ancestors."""
    tree = Tree(_drawn(_label(node)))
    _grow(tree, graph, node, {node.id}, MAX_GENERATIONS)
    return tree


def _wanted(graph: Graph, name: str | None) -> list[Node]:
    """The node with this name, or every current node that nothing was made from."""
    if name is not None:
        found = graph.find(name)
        if not found:
            names = [n.stage for n in graph.nodes] + [n.id for n in graph.nodes]
            raise UsageError(f"no node named {name!r} in the lineage{did_you_mean(name, names)}")
        return found
    used = {e.target for e in graph.edges if e.relation in ("used", "derived")}
    ends = [n for n in graph.nodes if n.type != "run" and n.is_current and n.id not in used]
    final = [n for n in ends if n.facts.get("is_final", True)]
    if not final:
        raise UsageError("no final results yet; run `continuum run` first")
    return final


def _grow(tree: Tree, graph: Graph, node: Node, shown: set[str], generations: int) -> None:
    """Add the node's parents, and theirs at their first occurrence."""
    parents = graph.parents(node.id)
    if parents and not generations:
        tree.add(f"… more with `continuum lineage SPEC {_name(node)}`")
        return
    sources = [parent for _, parent in parents if parent.type == "source"]
    for relation, parent in parents:
        if parent.type == "source" and len(sources) > MAX_SOURCES:
            continue
        is_known = parent.id in shown and bool(graph.parents(parent.id))
        above = "  [dim](see above)[/dim]" if is_known else ""
        branch = tree.add(_drawn(f"[dim]{relation}[/dim] {_label(parent)}{above}"))
        if not is_known:
            shown.add(parent.id)
            _grow(branch, graph, parent, shown, generations - 1)
    if len(sources) > MAX_SOURCES:
        first, last = (escape(source.facts["source"]) for source in (sources[0], sources[-1]))
        tree.add(_drawn(f"[dim]used[/dim] {len(sources)} sources, {first} … {last}"))


def _drawn(markup: str) -> Text:
    """A label with its styles; emoji codes in names, such as `:heart:`, are not replaced."""
    return Text.from_markup(markup, emoji=False)


def _label(node: Node) -> str:
    facts = node.facts
    words = [f"[bold]{_name(node)}[/bold]", node.type]
    if node.type == "source":
        words = [f"[bold]{escape(facts['source'])}[/bold]", "source"]
    if facts.get("tokens_seen"):
        words.append(_tokens(facts))
    elif node.type not in ("source", "run") and facts.get("summary"):
        words.append(str(facts["summary"]))
    if facts.get("best_by"):
        words.append(f"best by {', '.join(facts['best_by'])}")
    if facts.get("commit"):
        words.append(f"commit {facts['commit']}")
    words.append(f"[dim]sha256 {short_digest(node.sha256)}[/dim]")
    if "missing" in facts:
        words.append(f"[red](missing: {escape(facts['missing'])} is not there)[/red]")
    elif "removed" in facts:
        words.append(f"[dim](removed on {facts['removed'][:10]})[/dim]")
    elif not node.is_current:
        words.append("[dim](of an earlier spec)[/dim]")
    return "  ".join(words)


def _name(node: Node) -> str:
    step = node.facts.get("step")
    return f"{node.stage}@step-{step}" if node.type == "training checkpoint" else node.stage


def _tokens(facts: dict[str, Any]) -> str:
    total, skipped = facts["tokens_total"], facts.get("skipped_steps")
    in_all = f"at least {total['at_least']:,}" if isinstance(total, dict) else f"{total:,}"
    apart = f", {facts['skipped_tokens']:,} in {skipped:,} skipped steps" if skipped else ""
    text = f"{facts['tokens_seen']:,} tokens, {in_all} in total{apart}"
    epochs = (f"{number:g} x {name}" for name, number in facts.get("epochs", {}).items())
    read = ", ".join(epochs)
    return f"{text} ({read})" if read else text
