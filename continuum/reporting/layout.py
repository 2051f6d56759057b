"""Places for the nodes of a directed graph: layers from top to bottom, few crossings.

Sugiyama's method in its simplest form: layers by the longest path, an unseen node in every layer
that an edge passes, sweeps that order each layer by the mean place of its neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import mean

SWEEPS = 6
PASSING = 16.0
"""Width of a place that an edge passes."""


@dataclass(frozen=True)
class Layout:
    """Centers of nodes, and the way of each edge."""

    width: float
    height: float
    places: Mapping[str, tuple[float, float]]
    ways: Mapping[tuple[str, str], Sequence[tuple[float, float]]]
    """From the center of the first node to that of the second, by the places in between."""


def lay_out(
    nodes: Mapping[str, float],
    edges: Sequence[tuple[str, str]],
    *,
    layer_height: float,
    gap: float,
    max_width: float,
) -> Layout | None:
    """Place the nodes of a graph without cycles.

    Args:
        nodes: The width of each, in an order in which no edge points back.
        edges: From the upper to the lower node.

    Returns:
        None if a layer is wider than `max_width`.
    """
    layers = _with_passing(_layers(nodes, edges), edges)
    widths = {**dict.fromkeys((it for row in layers.rows for it in row), PASSING), **nodes}
    spans = [sum(widths[it] for it in row) + gap * (len(row) - 1) for row in layers.rows]
    width = max(spans, default=0.0)
    if width > max_width:
        return None
    rows = _ordered(layers)
    centers = _centers(rows, widths, layers.neighbours, gap, width)
    heights = {it: (n + 0.5) * layer_height for n, row in enumerate(rows) for it in row}
    places = {it: (centers[it], heights[it]) for it in centers}
    return Layout(
        width=width,
        height=layer_height * len(rows),
        places={it: places[it] for it in nodes},
        ways={edge: [places[it] for it in way] for edge, way in layers.ways.items()},
    )


@dataclass
class _Layers:
    rows: list[list[str]]
    ways: dict[tuple[str, str], list[str]]
    neighbours: dict[str, list[str]]
    steps: dict[tuple[str, str], int]
    """The parts of the ways, and the layer in which each begins."""


def _layers(nodes: Mapping[str, float], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The layer of each node: below all that it is made from, and as near to them as can be."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for source, target in edges:
        above.setdefault(target, []).append(source)
        below.setdefault(source, []).append(target)
    layer: dict[str, int] = {}
    for node in nodes:
        layer[node] = max((layer[it] + 1 for it in above.get(node, ())), default=0)
    for node in reversed([*nodes]):
        if node in below and node not in above:
            layer[node] = min(layer[it] for it in below[node]) - 1
    return layer


def _with_passing(layer: Mapping[str, int], edges: Sequence[tuple[str, str]]) -> _Layers:
    rows: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node, number in layer.items():
        rows[number].append(node)
    found = _Layers(rows, {}, {}, {})
    for source, target in edges:
        way = [source]
        for number in range(layer[source] + 1, layer[target]):
            passing = f"{source}\n{number}"  # which all edges from the node share
            if passing not in found.neighbours:
                rows[number].append(passing)
            way.append(passing)
        way.append(target)
        found.ways[source, target] = way
        for upper, lower in pairwise(way):
            if (upper, lower) not in found.steps:
                found.steps[upper, lower] = layer[source] + way.index(upper)
                found.neighbours.setdefault(upper, []).append(lower)
                found.neighbours.setdefault(lower, []).append(upper)
    return found


def _ordered(layers: _Layers) -> list[list[str]]:
    """The rows in the order with the fewest crossings that the sweeps come by."""
    rows = layers.rows
    best, fewest = [[*row] for row in rows], _num_crossings(layers, rows)
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            places = {it: (n + 0.5) / len(other) for other in rows for n, it in enumerate(other)}
            wanted = {it: mean(places[n] for n in layers.neighbours.get(it, (it,))) for it in row}
            row.sort(key=wanted.__getitem__)
        number = _num_crossings(layers, rows)
        if number < fewest:
            best, fewest = [[*row] for row in rows], number
    return best


def _num_crossings(layers: _Layers, rows: Sequence[Sequence[str]]) -> int:
    places = {it: n for row in rows for n, it in enumerate(row)}
    by_layer: dict[int, list[tuple[int, int]]] = {}
    for (upper, lower), number in layers.steps.items():
        by_layer.setdefault(number, []).append((places[upper], places[lower]))
    return sum(
        (a[0] - b[0]) * (a[1] - b[1]) < 0
        for steps in by_layer.values()
        for a, b in combinations(steps, 2)
    )


def _centers(
    rows: Sequence[Sequence[str]],
    widths: Mapping[str, float],
    neighbours: Mapping[str, Sequence[str]],
    gap: float,
    width: float,
) -> dict[str, float]:
    """Centers that keep the order and the gaps of each row, near the mean of the neighbours."""
    centers: dict[str, float] = {}
    for row in rows:
        left = (width - sum(widths[it] for it in row) - gap * (len(row) - 1)) / 2
        for it in row:
            centers[it] = left + widths[it] / 2
            left += widths[it] + gap
    for _ in range(SWEEPS):
        for row in rows:
            wanted = [
                mean(centers[n] for n in neighbours[it]) if neighbours.get(it) else centers[it]
                for it in row
            ]
            _spread(row, wanted, centers, widths, gap, width)
    return centers


def _spread(
    row: Sequence[str],
    wanted: Sequence[float],
    centers: dict[str, float],
    widths: Mapping[str, float],
    gap: float,
    width: float,
) -> None:
    """Move the nodes of a row to their wanted centers, without overlap and inside the picture."""
    free = 0.0
    for it, want in zip(row, wanted, strict=True):
        centers[it] = max(want, free + widths[it] / 2)
        free = centers[it] + widths[it] / 2 + gap
    end = width
    for it in reversed(row):
        centers[it] = min(centers[it], end - widths[it] / 2)
        end = centers[it] - widths[it] / 2 - gap
