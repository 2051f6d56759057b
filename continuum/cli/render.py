"""`continuum render`: the resolved spec, and the origin of each line."""

import os.path
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Overrides, Spec, experiment_file
from continuum.cli.console import AsJson, Result
from continuum.loading.diagnostics import MAX_SHOWN_LINE, Place
from continuum.loading.keys import KeyPath
from continuum.loading.load import Document, load_document
from continuum.loading.render import DEFAULT, Line, rendered_lines, resolve
from continuum.loading.variables import variables_in
from continuum.loading.yaml import Node

MAX_ALIGNED = 72
"""Origins are aligned in one column, at most this one."""


def render(
    spec: Spec,
    overrides: Overrides = None,
    origins: Annotated[
        bool, typer.Option("--origins", help="Append the origin of each line as a comment.")
    ] = False,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Include the default of every field that is not set.")
    ] = False,
    as_json: AsJson = False,
) -> "Rendered":
    """Print the resolved spec: bases merged, overrides applied, variables substituted.

    Saved in the experiment's folder, the output describes the same experiment.
    """
    path = experiment_file(spec)
    document = load_document(path, overrides or ())
    return Rendered(document, resolve(document, defaults=defaults), path.parent, origins)


@dataclass(frozen=True)
class Rendered(Result):
    """A resolved spec."""

    schema = "continuum.rendered/1"
    document: Document
    resolved: dict[str, Any]
    folder: Path
    with_origins: bool

    def as_json(self) -> dict[str, Any]:
        origins = {
            ".".join(map(str, path)): {"file": at.file, "line": at.line, "column": at.column}
            for path, at in ((it.path, it.place) for it in self._lines())
        }
        return {"document": self.resolved, "origins": origins}

    def parts(self) -> Iterator[str]:
        lines = self._lines()
        width = max((len(it.text) for it in lines if len(it.text) <= MAX_ALIGNED), default=0)
        for it in lines:
            yield f"{it.text:<{width}}  # {self._origin(it)}" if self.with_origins else it.text

    def _lines(self) -> list[Line]:
        return rendered_lines(self.document, self.resolved)

    def _origin(self, line: Line) -> str:
        """`experiment.yaml:7`, `--set seed=1`, `default`; then the places of its variables."""
        written = self.document.composition.written
        variables = written.child("vars")
        labels = [self._label(line.place)]
        for name in dict.fromkeys(variables_in(_text_at(written, line.path))):
            node = variables.child(name) if variables is not None else None
            if node is not None:
                labels.append(f"{name} from {self._label(node.place)}")
        return ", ".join(labels)

    def _label(self, place: Place) -> str:
        if place == DEFAULT:
            return place.file
        if place.is_override:
            return " ".join(place.file.split())[:MAX_SHOWN_LINE]
        return f"{Path(os.path.relpath(place.file, self.folder)).as_posix()}:{place.line}"


def _text_at(root: Node, path: KeyPath) -> str:
    """The text at a path before variables were filled in; of a list, of all its items."""
    node = root.at(path)
    if node is None:
        return ""
    items = node.value if isinstance(node.value, list) else [node]
    return " ".join(item.value for item in items if isinstance(item.value, str))
