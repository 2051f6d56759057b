"""`continuum report`: write what was asked, done and found as a page."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Opened, Overrides, Spec, open_experiment
from continuum.cli.console import AsJson, Result
from continuum.formatting import format_bytes, plural
from continuum.lineage.reading import build_ancestry
from continuum.reporting.report import Report, make_report
from continuum.runs.files import write_bytes

FIGURES = "figures"


class Format(StrEnum):
    """What a report is written as."""

    HTML = "html"
    MD = "md"
    LATEX = "latex"


def report(
    spec: Spec,
    form: Annotated[
        Format, typer.Option("--format", help="One HTML file; Markdown or LaTeX with figures.")
    ] = Format.HTML,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> "Reported":
    """Write a page with stages, lineage, curves, evaluations and environment."""
    opened = open_experiment(spec, overrides)
    folder = opened.folder.path / "results"
    files = _files(read_report(opened), form)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    return Reported(tuple((folder / name, len(content)) for name, content in files.items()))


def read_report(opened: Opened) -> Report:
    """Read the records of an experiment's folder."""
    plan, composition = opened.plan(), opened.loaded.document().composition
    graph = build_ancestry(opened.folder, plan.experiment.name, tuple(plan))
    return make_report(plan, composition, graph)


def _files(found: Report, form: Format) -> dict[str, bytes]:
    from continuum.reporting import pages

    if form is Format.MD:
        return pages.as_markdown(found, FIGURES)
    if form is Format.LATEX:
        return pages.as_latex(found, FIGURES)
    return {"report.html": pages.as_html(found).encode()}


@dataclass(frozen=True)
class Reported(Result):
    """The files of a report."""

    schema = "continuum.report/1"
    files: tuple[tuple[Path, int], ...]
    """Their paths and sizes; the first is the report."""

    def as_json(self) -> dict[str, Any]:
        return {"files": [{"path": str(path), "size_bytes": size} for path, size in self.files]}

    def parts(self) -> Iterator[str]:
        path, size = self.files[0]
        others = len(self.files) - 1
        figures = f" and {plural(others, 'figure')}" if others else ""
        yield f"wrote {path} ({format_bytes(size)}){figures}"
