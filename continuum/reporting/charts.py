"""Figures: one specification a figure, which gives SVG for a page, and PDF and PNG for paper.

A specification names its colours by CSS variables and `currentColor`, so that a page decides them
by its theme; `paper` puts those of print in their place. Altair and vl-convert are imported only
when a figure is drawn: they take longer to import than everything else.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from continuum.reporting.curves import (
    RECOVERED,
    SKIPPED,
    Mark,
    Point,
    Training,
    points_each,
    thinned,
)
from continuum.reporting.layout import Layout
from continuum.reporting.results import Matrix

if TYPE_CHECKING:
    import altair as alt

Specification = dict[str, Any]
"""Of Vega-Lite."""

COLORS: Mapping[str, tuple[str, str]] = {
    "ink": ("#1c1e21", "#e6e8eb"),
    "soft": ("#5b6269", "#a3abb3"),
    "grid": ("#dfe2e6", "#353b42"),
    "surface": ("#f4f6f8", "#20252b"),
    "page": ("#ffffff", "#14171a"),
    "alert": ("#b3261e", "#ff8a80"),
    "s0": ("#0067a5", "#63b5ee"),
    "s1": ("#c4500a", "#ff9d5c"),
    "s2": ("#00795a", "#46cf9f"),
    "s3": ("#9a3f86", "#e79bd3"),
    "s4": ("#7d6100", "#e0bf4b"),
    "s5": ("#3b4cc0", "#a9b4ff"),
    "s6": ("#b01e4f", "#ff8fb1"),
    "s7": ("#0b7285", "#5fd3e0"),
}
"""Each by the name of its CSS variable: on a light and on a dark page."""
SERIES = tuple(f"var(--{name})" for name in COLORS if re.fullmatch(r"s\d", name))
DASHES = ((1, 0), (5, 3), (2, 2))
"""After each round of colours."""
MAX_NAMED = len(SERIES) * len(DASHES)
"""More series than this are drawn alike and without a legend."""
FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
PAPER_FONT = "Liberation Sans"
"""Comes with vl-convert, which places labels by its widths; Arial has the same."""
LETTER = 6.2
"""Mean width of a letter, in pixels."""
TOKENS = "training tokens, with those of the ancestors"
ALL_KNOWN, LEAST = TOKENS, f"{TOKENS} that are known"
PNG_SCALE = 2.0
ROW_NAME = 120.0
"""The widest name of a row of a matrix, in pixels; it is cut off."""


@dataclass(frozen=True)
class Size:
    """How large a figure is drawn."""

    width: int
    """Of the figure with its axes, in pixels."""
    panel: int
    """Height of a panel of curves."""

    @property
    def plot(self) -> int:
        """Width within the axes."""
        return self.width - 62


WIDE, NARROW = Size(720, 190), Size(330, 150)
PRINTED = Size(450, 120)
"""A point a pixel: as wide as a text of 160 mm."""
PRINTED_LETTERS = 0.8
"""Size of letters on paper, of that on a page."""


class Drawing:
    """A figure in the making.

    Its data is added last: Altair would copy and check each row many times.
    """

    def __init__(self) -> None:
        self._datasets: dict[str, list[dict[str, Any]]] = {}

    def chart(self, rows: list[dict[str, Any]], name: str = "") -> "alt.Chart":
        """A chart of rows; `name` becomes a class of its marks."""
        import altair as alt

        key = f"data{len(self._datasets)}"
        self._datasets[key] = rows
        return alt.Chart(alt.NamedData(key), name=name or alt.Undefined)

    def finish(self, chart: Any, padding: int = 4) -> Specification:
        """The specification, in the colours and letters of a page."""
        axis = {
            "labelColor": "var(--soft)",
            "titleColor": "var(--soft)",
            "titleFontWeight": "normal",
            "gridColor": "var(--grid)",
            "domainColor": "var(--soft)",
            "tickColor": "var(--soft)",
            "labelFontSize": 11,
            "titleFontSize": 11,
        }
        configured = (
            chart.configure(background="transparent", font=FONT, padding=padding)
            .configure_view(stroke=None)
            .configure_axis(**axis)
            .configure_axisX(grid=False)
            .configure_axisY(domain=False, ticks=False)
            .configure_legend(labelColor="currentColor", labelFontSize=11, labelLimit=0)
            .configure_title(color="currentColor", fontSize=12)
        )
        document: Specification = configured.to_dict()
        return {**document, "datasets": self._datasets}


def loss_figure(trainings: Sequence[Training], size: Size) -> Specification:
    """The training loss and, below it, the learning rate of each stage."""
    import altair as alt

    drawing, series = Drawing(), Series.of(trainings)
    loss = alt.layer(
        *_borders(drawing, trainings, series, size, with_names=True),
        _lines(drawing, series, "loss", size, name="loss", title="training loss", is_last=False),
        *_marks(drawing, trainings, size),
    )
    rate = alt.layer(
        *_borders(drawing, trainings, series, size, with_names=False),
        _lines(
            drawing,
            series,
            "lr",
            size,
            name="lr",
            title="learning rate",
            height=0.45,
            legend=False,
            has_zero=True,
        ),
    )
    return drawing.finish(alt.vconcat(loss, rate, spacing=14).resolve_scale(x="shared"))


def validation_figure(trainings: Sequence[Training], size: Size) -> Specification:
    """The validation losses: a panel for each dataset."""
    import altair as alt

    drawing, series = Drawing(), Series.of([it for it in trainings if it.validation])
    panels = []
    datasets = validated_datasets(trainings)
    for number, dataset in enumerate(datasets):
        columns = {it.stage: it.validation.get(dataset, "") for it in trainings}
        lines = partial(
            _lines,
            drawing,
            series,
            columns,
            size,
            title="validation loss",
            legend=not number,
            is_last=number == len(datasets) - 1,
        )
        layers = [*_borders(drawing, trainings, series, size, with_names=False)]
        layers.append(lines(name=f"validation{number}"))
        if series.names:
            layers.append(lines(name=f"validation{number}_points", are_points=True))
        title = alt.Title(dataset, anchor="start", fontWeight="bold")
        panels.append(alt.layer(*layers).properties(title=title))
    return drawing.finish(alt.vconcat(*panels, spacing=14).resolve_scale(x="shared"))


def validated_datasets(trainings: Sequence[Training]) -> list[str]:
    """The datasets with validation losses, in the order in which they come up."""
    return [*dict.fromkeys(dataset for it in trainings for dataset in it.validation)]


def matrix_figure(matrix: Matrix, size: Size) -> Specification:
    """A heat map; the lower a value within its column, the stronger its colour."""
    import altair as alt

    drawing, values = Drawing(), matrix.values
    shades = dict(_shades(matrix.texts, values))
    data = [
        {
            "model": model,
            "text_name": text,
            "shade": shades[model, text],
            "text": f"{value:.3f}",
        }
        for (model, text), value in values.items()
    ]
    column = min(120.0, (size.width - ROW_NAME - 10) / len(matrix.texts))
    base = drawing.chart(data).encode(
        x=alt.X(
            "text_name:N",
            title=None,
            sort=None,
            axis=alt.Axis(orient="top", labelAngle=0, labelLimit=column),
        ),
        y=alt.Y("model:N", title=None, sort=None, axis=alt.Axis(labelLimit=ROW_NAME)),
    )
    cells = base.mark_rect(fill=SERIES[0]).encode(
        fillOpacity=alt.FillOpacity(
            "shade:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 0.5]), legend=None
        )
    )
    texts = base.mark_text(color="currentColor").encode(text="text:N")
    chart = alt.layer(cells, texts, name="matrix").properties(
        width=column * len(matrix.texts), height=28 * len(matrix.models)
    )
    return drawing.finish(chart)


def _shades(
    columns: Sequence[str], values: Mapping[tuple[str, str], float]
) -> Iterator[tuple[tuple[str, str], float]]:
    """0 for the highest value of a column, 1 for the lowest."""
    for column in columns:
        own = {key: value for key, value in values.items() if key[1] == column}
        low, high = min(own.values(), default=0.0), max(own.values(), default=0.0)
        for key, value in own.items():
            yield key, (high - value) / (high - low) if high > low else 0.5


@dataclass(frozen=True)
class Box:
    """A node of the graph of stages."""

    name: str
    title: str
    text: str
    is_complete: bool
    link: str | None = None


BOX_HEIGHT, LAYER_HEIGHT = 36.0, 66.0
BENDS = 10
OUTLINES: Mapping[bool, Mapping[str, Any]] = {
    True: {"stroke": "currentColor"},
    False: {"stroke": "var(--alert)", "strokeDash": [4, 3]},
}
"""Of a stage that is complete, and of one that is not."""


def box_width(box: Box) -> float:
    """The width that the texts of a node take, in pixels."""
    return max(64.0, max(len(box.title) * 6.6, len(box.text) * 5.6) + 16)


def graph_figure(
    boxes: Sequence[Box], layout: Layout, solid: set[tuple[str, str]]
) -> Specification:
    """The stages and what each is made from.

    Args:
        solid: The edges from a model to one that was trained from it.
    """
    import altair as alt

    drawing = Drawing()
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, layout.width], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[layout.height, 0], nice=False))
    ways = [
        {
            "x": px,
            "y": py,
            "n": number,
            "edge": f"{source}>{target}",
            "solid": (source, target) in solid,
        }
        for (source, target), way in layout.ways.items()
        for number, (px, py) in enumerate(_bent(way))
    ]
    edges = (
        drawing.chart(ways, "edges")
        .mark_line(color="var(--soft)", strokeJoin="round")
        .encode(
            x,
            y,
            detail="edge:N",
            order="n:Q",
            strokeWidth=alt.condition("datum.solid", alt.value(2.2), alt.value(0.9)),
        )
    )
    placed = [*_placed(boxes, layout)]
    nodes = drawing.chart(placed)
    link = {"href": alt.Href("link:N")} if any(box.link for box in boxes) else {}
    corners = {
        "x": alt.X("left:Q", axis=None),
        "y": alt.Y("top:Q", axis=None),
        "x2": "right:Q",
        "y2": "bottom:Q",
    }
    frames = [
        drawing.chart([it for it in placed if it["is_complete"] is complete])
        .mark_rect(fill="var(--surface)", cornerRadius=5, strokeWidth=1.2, **outline)
        .encode(**corners, description="description:N", **link)
        for complete, outline in OUTLINES.items()
    ]
    titles = nodes.mark_text(color="currentColor", fontWeight="bold", dy=-6).encode(
        x, y, text="title:N", **link
    )
    texts = nodes.mark_text(color="var(--soft)", fontSize=10, dy=8).encode(
        x, y, text="text:N", **link
    )
    chart = alt.layer(edges, *frames, titles, texts)
    return drawing.finish(chart.properties(width=layout.width, height=layout.height), padding=2)


def _placed(boxes: Sequence[Box], layout: Layout) -> Iterator[dict[str, Any]]:
    for box in boxes:
        x, y = layout.places[box.name]
        half, tall = box_width(box) / 2, BOX_HEIGHT / 2
        yield {
            **{"x": x, "y": y, "left": x - half, "right": x + half, "top": y - tall},
            **{"bottom": y + tall, "title": box.title, "text": box.text},
            **{"is_complete": box.is_complete, "link": box.link},
            "description": f"{box.name}: {box.text}",
        }


def _bent(way: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """A smooth way, vertical at each of its points."""
    yield way[0]
    for (x0, y0), (x1, y1) in pairwise(way):
        for number in range(1, BENDS + 1) if x0 != x1 else (BENDS,):
            part = number / BENDS
            yield x0 + (x1 - x0) * part * part * (3 - 2 * part), y0 + (y1 - y0) * part


@dataclass(frozen=True)
class Series:
    """The stages of a figure, and how each is drawn."""

    trainings: Sequence[Training]
    names: Sequence[str]
    """Of the legend; empty if there are too many."""
    all_known: bool

    @classmethod
    def of(cls, trainings: Sequence[Training]) -> "Series":
        names = [it.stage for it in trainings] if len(trainings) <= MAX_NAMED else []
        return cls(trainings, names, all(it.has_known_start for it in trainings))

    @property
    def axis_title(self) -> str:
        return ALL_KNOWN if self.all_known else LEAST

    def channels(self, size: Size, *, legend: bool) -> dict[str, Any]:
        """Colour and dashes by stage."""
        import altair as alt

        if not self.names:
            return {"detail": "stage:N"}
        colors = [SERIES[n % len(SERIES)] for n in range(len(self.names))]
        dashes = [[*DASHES[n // len(SERIES)]] for n in range(len(self.names))]
        longest = max(map(len, self.names)) * LETTER + 34
        shown = alt.Legend(
            title=None, orient="top", symbolType="stroke", columns=max(1, int(size.plot / longest))
        )
        legend_or_none = shown if legend and len(self.names) > 1 else None
        color_scale = alt.Scale(domain=[*self.names], range=colors)
        color = alt.Color("stage:N", scale=color_scale, legend=legend_or_none)
        if len(self.names) <= len(SERIES):
            return {"color": color}
        dash_scale = alt.Scale(domain=[*self.names], range=dashes)
        dash = alt.StrokeDash("stage:N", scale=dash_scale, legend=legend_or_none)
        return {"color": color, "strokeDash": dash}


def _lines(
    drawing: Drawing,
    series: Series,
    columns: str | Mapping[str, str],
    size: Size,
    *,
    name: str,
    title: str,
    height: float = 1.0,
    legend: bool = True,
    is_last: bool = True,
    has_zero: bool = False,
    are_points: bool = False,
) -> "alt.Chart":
    import altair as alt

    limit = points_each(len(series.trainings))
    data = [
        {"stage": it.stage, "tokens": point.tokens, "value": point.value}
        for it in series.trainings
        for point in thinned(_points(it, columns), limit)
    ]
    chart = drawing.chart(data, name)
    alone = {} if series.names else {"color": SERIES[0], "opacity": 0.35}
    drawn = (
        chart.mark_point(filled=True, size=22, **alone)
        if are_points
        else chart.mark_line(strokeWidth=1.5, strokeJoin="round", **alone)
    )
    channels = series.channels(size, legend=legend)
    if are_points:
        channels.pop("strokeDash", None)
    return drawn.encode(
        x=alt.X(
            "tokens:Q",
            title=series.axis_title if is_last else None,
            axis=alt.Axis(format="~s", tickCount=6),
            scale=alt.Scale(nice=False, domainMin=min(it.start for it in series.trainings)),
        ),
        y=alt.Y(
            "value:Q",
            title=title,
            axis=alt.Axis(tickCount=5, format="~g"),
            scale=alt.Scale(zero=has_zero),
        ),
        **channels,
    ).properties(width=size.plot, height=round(size.panel * height))


def _points(training: Training, columns: str | Mapping[str, str]) -> list[Point]:
    column = columns if isinstance(columns, str) else columns.get(training.stage, "")
    return training.points(column) if column else []


def _borders(
    drawing: Drawing, trainings: Sequence[Training], series: Series, size: Size, *, with_names: bool
) -> Iterator["alt.Chart"]:
    """A line where a stage starts, with the names of the stages that start there."""
    import altair as alt

    starts: dict[float, list[str]] = {}
    for it in trainings:
        starts.setdefault(it.start, []).append(it.stage)
    if not series.names:
        starts = {}
    data = [{"tokens": it, "names": ", ".join(starts[it])} for it in sorted(starts)]
    if len(data) < 2:
        return
    base = drawing.chart(data[1:])
    yield base.mark_rule(color="var(--soft)", strokeDash=[3, 3], strokeWidth=1).encode(x="tokens:Q")
    if with_names:
        named = [*_without_overlap(data, trainings, size)]
        yield (
            drawing.chart(named)
            .mark_text(
                align="left", baseline="bottom", dx=1, dy=-3, fontSize=10, color="var(--soft)"
            )
            .encode(x="tokens:Q", y=alt.value(0), text="names:N")
        )


def _without_overlap(
    data: Sequence[dict[str, Any]], trainings: Sequence[Training], size: Size
) -> Iterator[dict[str, Any]]:
    """The names that have room before the next border."""
    end = max(it.end for it in trainings)
    first = min(it["tokens"] for it in data)
    scale = size.plot / (end - first) if end > first else 0.0
    for number, it in enumerate(data):
        until = data[number + 1]["tokens"] if number + 1 < len(data) else end
        letters = int(((until - it["tokens"]) * scale - 6) / (LETTER * 0.92))
        if letters >= 4:
            yield {**it, "names": shortened(it["names"], letters)}


def _marks(drawing: Drawing, trainings: Sequence[Training], size: Size) -> Iterator["alt.Chart"]:
    """What happened in the trainings, at the bottom of the panel."""
    import altair as alt

    found: list[Mark] = [mark for it in trainings for mark in it.marks]
    if not found:
        return
    data = [{"tokens": it.tokens, "what": it.what, "text": it.text} for it in found]
    kinds = [what for what in (RECOVERED, SKIPPED) if any(it.what == what for it in found)]
    shapes = {RECOVERED: "triangle-up", SKIPPED: "cross"}
    legend = alt.Legend(
        title=None,
        orient="bottom",
        symbolFillColor="var(--alert)",
        symbolStrokeColor="var(--alert)",
    )
    yield (
        drawing.chart(data, "marks")
        .mark_point(filled=True, size=60, color="var(--alert)", opacity=1)
        .encode(
            x="tokens:Q",
            y=alt.value(size.panel - 6),
            shape=alt.Shape(
                "what:N",
                scale=alt.Scale(domain=kinds, range=[shapes[it] for it in kinds]),
                legend=legend,
            ),
            tooltip="text:N",
            description="text:N",
        )
    )


def shortened(text: str, letters: int) -> str:
    """A text, cut off after a number of letters."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def svg(specification: Specification, number: int) -> str:
    """The figure as SVG for a page.

    Args:
        number: Of the figure in its page, where ids must be unique.
    """
    import vl_convert

    text: str = vl_convert.vegalite_to_svg(specification, vl_version=_version())
    # vl-convert takes a link within the page for one relative to the address of its examples.
    text = re.sub(r'xlink:href="[^"#]*#', 'href="#', text)
    text = re.sub(r' d="[^"]*"', lambda way: re.sub(r"(\.\d\d)\d+", r"\1", way[0]), text)
    return re.sub(r'(\bid="|url\(#)', rf"\g<1>f{number}-", text)


def pdf(specification: Specification) -> bytes:
    """The figure as PDF, for paper."""
    import vl_convert

    made: bytes = vl_convert.vegalite_to_pdf(paper(specification), vl_version=_version())
    return made


def pdf_width(document: bytes) -> float:
    """The width of the page of a PDF, in points."""
    box = re.search(rb"/MediaBox \[\S+ \S+ (\S+) \S+\]", document)
    assert box is not None, "vl-convert writes one page"
    return float(box[1])


def png(specification: Specification) -> bytes:
    """The figure as PNG, for paper."""
    import vl_convert

    made: bytes = vl_convert.vegalite_to_png(
        paper(specification), vl_version=_version(), scale=PNG_SCALE
    )
    return made


def paper(value: Any) -> Any:
    """A specification with the colours and the font of print."""
    if isinstance(value, dict):
        smaller = {
            key: PRINTED_LETTERS * item
            for key, item in value.items()
            if key.lower().endswith("fontsize") and isinstance(item, (int, float))
        }
        return {key: paper(item) for key, item in value.items()} | smaller
    if isinstance(value, list):
        return [paper(item) for item in value]
    if value == "currentColor":
        return COLORS["ink"][0]
    if value == FONT:
        return PAPER_FONT
    is_variable = isinstance(value, str) and value.startswith("var(--")
    return COLORS[value[6:-1]][0] if is_variable else value


def _version() -> str:
    """The version of Vega-Lite that Altair writes."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
