"""`continuum render`: the resolved spec, and where each of its lines comes from."""

import os.path
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Overrides, Spec, experiment_file
from continuum.cli.console import Result
from continuum.loading.diagnostics import MAX_SHOWN_LINE, Place
from continuum.loading.emitting import Line, yaml_lines
from continuum.loading.experiment import Document, load_document
from continuum.loading.known import KeyPath
from continuum.loading.resolved import DEFAULT, resolve
from continuum.loading.variables import variables_in
from continuum.loading.yaml import Node

MAX_ALIGNED = 72
"""Origins stand in one column, up to this one; longer lines have theirs after them."""


def render(
    spec: Spec,
    overrides: Overrides = None,
    origins: Annotated[
        bool, typer.Option("--origins", help="Say behind each line where it comes from.")
    ] = False,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Fill in what is left to defaults.")
    ] = False,
) -> "Rendered":
    """Show the resolved spec: bases merged, overrides set, variables filled in.

    Saved in the experiment's folder, it is the same experiment.
    """
    path = experiment_file(spec)
    document = load_document(path, overrides or ())
    return Rendered(document, resolve(document, defaults=defaults), path.parent, origins)


@dataclass(frozen=True)
class Rendered(Result):
    """A resolved spec."""

    schema = "continuum.rendered/1"
    document: Document
    root: Node
    folder: Path
    with_origins: bool

    def as_json(self) -> dict[str, Any]:
        origins = {}
        for line in yaml_lines(self.root):
            place = _place(line.node)
            dotted = ".".join(str(part) for part in line.path)
            origins[dotted] = {"file": place.file, "line": place.line, "column": place.column}
        return {"document": self.root.plain(), "origins": origins}

    def parts(self) -> Iterator[str]:
        lines = yaml_lines(self.root)
        texts = [line.text for line in lines]
        if self.with_origins:
            texts = _beside(texts, [_origin(line, self.document, self.folder) for line in lines])
        yield "\n".join(texts)


def _beside(texts: list[str], labels: list[str]) -> list[str]:
    width = max((len(text) for text in texts if len(text) <= MAX_ALIGNED), default=0)
    return [f"{text:<{width}}  # {label}" for text, label in zip(texts, labels, strict=True)]


def _origin(line: Line, document: Document, folder: Path) -> str:
    """`experiment.yaml:7`, `--set seed=1`, `default`; and of variables, theirs."""
    composition = document.composition
    variables = composition.written.child("vars")
    told = [_label(_place(line.node), folder)]
    for name in dict.fromkeys(variables_in(_written_text(composition.written, line.path))):
        node = variables.child(name) if variables is not None else None
        if node is not None:
            told.append(f"{name} from {_label(node.place, folder)}")
    return ", ".join(told)


def _label(place: Place, folder: Path) -> str:
    if place == DEFAULT:
        return place.file
    if place.is_override:
        return " ".join(place.file.split())[:MAX_SHOWN_LINE]
    return f"{Path(os.path.relpath(place.file, folder)).as_posix()}:{place.line}"


def _place(node: Node) -> Place:
    """Of a mapping or list, its key; of a value, the value."""
    is_scalar = not isinstance(node.value, (dict, list))
    return node.place if is_scalar or node.key_place is None else node.key_place


def _written_text(root: Node, path: KeyPath) -> str:
    """The text at a path before variables were filled in, of a list on one line all of it."""
    node: Node | None = root
    for key in path:
        node = node.child(key) if node is not None else None
    if node is None:
        return ""
    items = node.value if isinstance(node.value, list) else [node]
    return " ".join(item.value for item in items if isinstance(item.value, str))
