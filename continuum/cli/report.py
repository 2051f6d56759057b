"""`continuum report`: write what was asked, done and found as a page."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Opened, Overrides, Spec, open_experiment
from continuum.cli.console import AsJson, Result, wants_json
from continuum.cli.page_server import PageServer
from continuum.errors import UsageError
from continuum.formatting import format_bytes, plural
from continuum.lineage.reading import build_ancestry
from continuum.reporting.report import Report, make_report
from continuum.runs.files import write_bytes

FIGURES = "figures"
REFRESH_S = 10.0
"""Between two loads of a served page during a run."""


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
    serve: Annotated[
        bool, typer.Option("--serve", help="Show the page on this machine; write nothing.")
    ] = False,
    port: Annotated[int, typer.Option(help="For --serve; 0 is any free port.")] = 0,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> "Reported | None":
    """Write a page with stages, lineage, curves, evaluations and environment."""
    if serve:
        if form is not Format.HTML or wants_json():
            raise UsageError("--serve shows HTML; it has no --format and no --json")
        _serve(spec, overrides, port)
        return None
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


def _serve(spec: Path, overrides: list[str] | None, port: int) -> None:
    """Serve the page until Ctrl-C; a browser loads it again during a run."""
    from continuum.reporting import pages

    cached: tuple[object, bytes] | None = None

    def make_page() -> bytes:
        nonlocal cached
        opened = open_experiment(spec, overrides)
        state = _state_of_files(opened)
        if cached is None or cached[0] != state:
            found = read_report(opened)
            wait_s = REFRESH_S if found.is_running else None
            cached = state, pages.as_html(found, refresh_s=wait_s).encode()
        return cached[1]

    with PageServer(make_page, port) as server:
        typer.echo(f"serving {server.address} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _state_of_files(opened: Opened) -> object:
    """What differs when the page has to be made again."""
    names = ("stage.json", "attempts.jsonl", "metrics.jsonl", "artifact.json")
    records = [run.path / name for run in opened.folder.runs() for name in names]
    found = []
    for path in (*opened.files, *records):
        with suppress(OSError):
            status = path.stat()
            found.append((path, status.st_mtime_ns, status.st_size))
    return opened.folder.is_locked(), tuple(found)


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
