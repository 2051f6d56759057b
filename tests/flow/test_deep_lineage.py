"""An ancestry of thousands of generations: drawn as far as anyone reads, with the way to go on."""

import io

from rich.console import Console

from continuum.cli.lineage import MAX_GENERATIONS, draw
from continuum.lineage.graph import Edge, Graph, Node

NUM_NODES = 5000


def test_a_long_ancestry_ends_with_where_to_look_further() -> None:
    nodes = [
        Node(id=f"s{n}", type="weights", stage=f"s{n}", sha256="ab" * 32, is_current=True)
        for n in range(NUM_NODES)
    ]
    edges = [
        Edge(source=f"s{n}", relation="derived", target=f"s{n - 1}") for n in range(1, NUM_NODES)
    ]
    graph = Graph(experiment="deep", nodes=tuple(nodes), edges=tuple(edges))
    out = io.StringIO()
    Console(file=out, width=1000).print(draw(graph, nodes[-1]))
    lines = out.getvalue().splitlines()
    assert len(lines) == MAX_GENERATIONS + 2
    oldest = f"s{NUM_NODES - 1 - MAX_GENERATIONS}"
    assert lines[0].startswith(f"s{NUM_NODES - 1}  weights")
    assert f"derived {oldest}  weights" in lines[-2]
    assert lines[-1].endswith(f"… more with `continuum lineage SPEC {oldest}`")
