"""Reports as files: HTML in one file, Markdown with SVG figures, LaTeX with PDF figures.

Every value that a template prints is escaped for its format; only figures, which are drawn here,
are printed as they are.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from continuum.formatting import short_digest
from continuum.loading.dump import in_one_line
from continuum.reporting import charts
from continuum.reporting.charts import COLORS, NARROW, PRINTED, WIDE, Box, Size, Specification
from continuum.reporting.curves import Training, points_each
from continuum.reporting.escaping import escape_latex, escape_markdown
from continuum.reporting.layout import lay_out
from continuum.reporting.report import Report, StageReport

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_LETTERS = 300
"""Of a value of the spec in a table."""
MAX_SHRINKING = 1.6
"""How much wider than its place a graph of stages may be drawn, to be shrunk to it."""
MAX_BOX_LETTERS = 22
MAX_DATASETS = 12
"""More validation curves are not drawn; their losses are in the table."""
FIGURE_COLUMNS = (
    ("seconds", "time"),
    ("tokens", "tokens"),
    ("tokens_per_s", "tokens/s"),
    ("flops", "compute"),
    ("memory_bytes", "memory"),
    ("disk_bytes", "disk"),
)
"""The figures in the table of stages, and their headings."""
MAX_TABLE_ROWS = 60
"""Of a table that LaTeX cannot break over pages."""
SECTIONS = {
    "stages": "Stages",
    "lineage": "Lineage",
    "training": "Training",
    "evaluation": "Evaluation",
    "samples": "Samples",
    "spec": "Specification",
    "environment": "Environment",
    "reproduce": "Reproduce",
    "runs": "Other runs",
}
MAX_CELLS = 600
"""A larger matrix of evaluations is a table only."""
MAX_MERMAID = 250
"""Stages that GitHub still draws."""


@dataclass(frozen=True)
class Figure:
    """A figure of a report."""

    name: str
    """Of its file."""
    title: str
    caption: str
    draw: Callable[[Size], Specification | None]
    """None if it does not fit."""


def as_html(report: Report, *, refresh_s: float | None = None) -> str:
    """The report as one HTML file that refers to no other.

    Args:
        refresh_s: After how many seconds a browser loads the page again; None for never.
    """
    figures = {}
    for number, it in enumerate(figures_of(report)):
        drawn = [(name, it.draw(size)) for name, size in (("wide", WIDE), ("narrow", NARROW))]
        pictures = [
            (name, _responsive(charts.svg(document, 2 * number + n)))
            for n, (name, document) in enumerate(drawn)
            if document is not None
        ]
        if pictures:
            figures[it.name] = (it, pictures)
    themes = [_variables(theme) for theme in range(2)]
    return _rendered(
        "report.html",
        report,
        figures=figures,
        themes=themes,
        refresh_s=refresh_s,
        sections=_sections(report),
    )


def as_markdown(report: Report, folder: str) -> dict[str, bytes]:
    """The report for GitHub, and its figures, by file name.

    Args:
        folder: Of the figures, relative to the report.
    """
    figures: dict[str, Figure] = {}
    files: dict[str, bytes] = {}
    for number, it in enumerate(figures_of(report)):
        document = it.draw(WIDE) if it.name != "stages" else None  # which Mermaid draws
        if document is not None:
            figures[it.name] = it
            files[f"{folder}/{it.name}.svg"] = _standalone(charts.svg(document, number)).encode()
    mermaid = _mermaid(report) if len(report.stages) <= MAX_MERMAID else ""
    text = _rendered("report.md", report, figures=figures, folder=folder, mermaid=mermaid)
    return {"report.md": (re.sub(r"\n{3,}", "\n\n", text).strip() + "\n").encode(), **files}


def as_latex(report: Report, folder: str) -> dict[str, bytes]:
    """The report as a LaTeX document, and its figures as PDF and PNG, by file name."""
    figures, too_wide = dict[str, Figure](), set[str]()
    files: dict[str, bytes] = {}
    for it in figures_of(report):
        if (document := it.draw(PRINTED)) is not None:
            figures[it.name] = it
            drawn = files[f"{folder}/{it.name}.pdf"] = charts.pdf(document)
            files[f"{folder}/{it.name}.png"] = charts.png(document)
            if charts.pdf_width(drawn) > PRINTED.width:
                too_wide.add(it.name)
    text = _rendered("report.tex", report, figures=figures, folder=folder, too_wide=too_wide)
    return {"report.tex": text.encode(), **files}


def _sections(report: Report) -> list[tuple[str, str]]:
    """The sections that the report has."""
    has = {
        "training": report.trainings,
        "evaluation": report.matrix,
        "samples": report.samples,
        "environment": report.environment,
        "runs": report.other_runs,
    }
    return [(id_, title) for id_, title in SECTIONS.items() if has.get(id_, True)]


def figures_of(report: Report) -> Iterator[Figure]:
    """The figures that the records have data for."""
    yield Figure("stages", "Lineage", _graph_caption(report), partial(_graph, report))
    trainings = report.trainings
    if trainings:
        caption = "Training loss and learning rate."
        if len({it.start for it in trainings}) > 1:
            caption += " A dashed line is where a stage starts."
        if report.has_marks:
            caption += " Triangles: resumed from a checkpoint. Crosses: skipped steps."
        draw = partial(charts.loss_figure, trainings)
        yield Figure("loss", "Loss and learning rate", caption + _thinning(trainings), draw)
    if 0 < len(charts.validated_datasets(trainings)) <= MAX_DATASETS:
        caption = "Validation loss by dataset. Losses on different datasets are not comparable."
        draw = partial(charts.validation_figure, trainings)
        yield Figure("validation", "Validation loss", caption, draw)
    if (matrix := report.matrix) is not None and len(matrix.scores) <= MAX_CELLS:
        caption = (
            f"{matrix.label}: models in the order of their training. The stronger the colour, the "
            "lower the value within its column."
        )
        if not matrix.is_comparable:
            caption += " Losses of models with different tokenizers are not comparable."
        yield Figure("matrix", "Evaluation", caption, partial(charts.matrix_figure, matrix))


def _thinning(trainings: Sequence[Training]) -> str:
    most, limit = max(len(it.points("loss")) for it in trainings), points_each(len(trainings))
    if most <= limit:
        return ""
    return (
        f" Thinned from up to {most:,} to {limit:,} points a stage: the lowest and the highest of "
        "each interval."
    )


def _graph_caption(report: Report) -> str:
    caption = "Each stage and what it was made from. Thick lines connect models."
    if not report.is_complete:
        caption += " Dashed frames: not complete."
    return caption


def _graph(report: Report, size: Size) -> Specification | None:
    boxes = [_box(stage, has_link=size is not PRINTED) for stage in report.stages]
    layout = lay_out(
        {box.name: charts.box_width(box) for box in boxes},
        [(edge.source, edge.target) for edge in report.edges],
        layer_height=charts.LAYER_HEIGHT,
        gap=min(24.0, size.width / 20),
        max_width=size.width * MAX_SHRINKING,
    )
    if layout is None:
        return None
    models = {(edge.source, edge.target) for edge in report.edges if edge.are_models}
    return charts.graph_figure(boxes, layout, models)


def _box(stage: StageReport, *, has_link: bool = False) -> Box:
    state = "" if stage.is_complete else f", {stage.state}"
    name = charts.shortened(stage.name, MAX_BOX_LETTERS)
    link = f"#stage-{stage.name}" if has_link else None
    return Box(stage.name, name, stage.kind + state, stage.is_complete, link)


def _mermaid(report: Report) -> str:
    ids = {stage.name: f"s{number}" for number, stage in enumerate(report.stages)}
    lines = ["graph TD"]
    for stage in report.stages:
        style = "" if stage.is_complete else ":::open"
        lines.append(f'  {ids[stage.name]}["{stage.name}<br>{_box(stage).text}"]{style}')
    for edge in report.edges:
        arrow = "==>" if edge.are_models else "-->"
        label = f"|{edge.selector}|" if edge.selector else ""
        lines.append(f"  {ids[edge.source]} {arrow}{label} {ids[edge.target]}")
    if not report.is_complete:
        lines.append("  classDef open stroke-dasharray:4")
    return "\n".join(lines)


def _responsive(svg: str) -> str:
    """A figure that is as wide as it was drawn, or as the page if that is narrower."""
    head, rest = svg.split(">", 1)
    width = re.search(r' width="([\d.]+)"', head)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    size = f' style="width:{width[1]}px"' if width else ""
    return f"{head}{size}>{rest}"


def _standalone(svg: str) -> str:
    """A figure with its colours, for a page that has none."""
    rules = [f":root{{{_variables(theme)};color:var(--ink)}}" for theme in range(2)]
    style = f"<style>{rules[0]}@media(prefers-color-scheme:dark){{{rules[1]}}}</style>"
    head, rest = svg.split(">", 1)
    return f"{head}>{style}{rest}"


def _variables(theme: int) -> str:
    return ";".join(f"--{name}:{pair[theme]}" for name, pair in COLORS.items())


def _rendered(template: str, report: Report, **values: Any) -> str:
    suffix = template.rpartition(".")[2]
    shown = {
        "report": report,
        "figure_columns": FIGURE_COLUMNS,
        "max_rows": MAX_TABLE_ROWS,
        **values,
    }
    return _environment(suffix).get_template(f"{template}.j2").render(shown)


@cache
def _environment(suffix: str) -> "Environment":
    """Templates of one format, which escape all that they print."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    options: dict[str, Any] = {
        "loader": PackageLoader("continuum.reporting"),
        "undefined": StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "keep_trailing_newline": True,
        "autoescape": suffix == "html",
    }
    if suffix == "md":
        options["finalize"] = partial(_finalized, escape=escape_markdown)
    if suffix == "tex":
        options["finalize"] = partial(_finalized, escape=escape_latex)
        options |= {
            "block_start_string": "<%",
            "block_end_string": "%>",
            "variable_start_string": "<<",
            "variable_end_string": ">>",
            "comment_start_string": "<#",
            "comment_end_string": "#>",
        }
    environment = Environment(**options)
    environment.filters |= {
        "value": _value,
        "digest": short_digest,
        "fence": _fence,
        "number": lambda value: f"{value:.3f}",
        "code": _code,
        "verbatim": _verbatim,
        "raw": Raw,
    }
    return environment


class Raw(str):
    """Text that is written as it is."""


def _finalized(value: Any, escape: Callable[[str], str]) -> str:
    return value if isinstance(value, Raw) else escape("" if value is None else str(value))


def _value(value: Any) -> str:
    """A value of the spec in one line."""
    return charts.shortened(in_one_line(value), MAX_LETTERS)


def _code(text: Any) -> Raw:
    """Inline code of Markdown, in a table too."""
    line = " ".join(str(text).split()).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if "`" in line else ""
    return Raw(f"{fence}{pad}{line}{pad}{fence}" if line else "")


def _fence(text: Any, language: str = "") -> Raw:
    """A block of code of Markdown."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", str(text))), default=0))
    return Raw(f"{fence}{language}\n{str(text).rstrip()}\n{fence}")


def _verbatim(text: Any) -> Raw:
    """Lines of code in LaTeX, which may break and hold any letter."""
    lines = str(text).rstrip().split("\n")
    made = []
    for line in lines:
        body = line.lstrip(" ")
        indent = f"\\hspace*{{{0.5 * (len(line) - len(body)):g}em}}" if body != line else ""
        made.append(f"\\noindent{indent}\\texttt{{{escape_latex(body)}}}\\par")
    return Raw("\n".join(made))
