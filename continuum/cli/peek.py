"""`continuum peek`: print documents as the model reads them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continuum.cli.arguments import Overrides, Spec, open_experiment, stage_of
from continuum.cli.console import AsJson, Result
from continuum.errors import UsageError
from continuum.planning.leaks import corpus_items
from continuum.planning.plan import Plan, PlannedStage
from continuum.runs.artifacts import Corpus, TokenizedDataset

if TYPE_CHECKING:
    from rich.text import Text

    from continuum.text.peek import Documents, Shown, Token

SPLITS = ("train", "validation")
DEFAULT_LENGTH = 1000
MAX_MATCHES = 10
BORDER = "\u2502"
STYLES = {"border": "dim", "special": "bold reverse", "invisible": "dim cyan"}
VISIBLE = {"\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d", "\u00a0": "\u237d"}
"""Signs for invisible characters; a line feed also starts a new line."""


def peek(
    spec: Spec,
    stage: Annotated[str, typer.Argument(help="A stage that makes a corpus or a dataset.")],
    document: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show document N, counted from 1.")
    ] = None,
    random: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show N documents at random.")
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option(metavar="RE", help="Show documents that match a regular expression."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Split of a dataset: train or validation.", metavar="SPLIT")
    ] = "train",
    length: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Show at most N tokens of each document (characters for a corpus).",
        ),
    ] = DEFAULT_LENGTH,
    seed: Annotated[int | None, typer.Option(help="Seed for --random.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> "Peek":
    """Print documents of a corpus or dataset, token by token, as they are trained on."""
    choices = {"--document": document, "--random": random, "--grep": grep}
    asked = [name for name, value in choices.items() if value is not None]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} cannot be used together")
    if seed is not None and random is None:
        raise UsageError("--seed can only be used with --random")
    if split not in SPLITS:
        raise UsageError(f"--split {split}: must be train or validation")
    plan = open_experiment(spec, overrides).plan()
    planned = stage_of(plan, stage)
    documents = _open(plan, planned, split)
    has_more = False
    if grep is not None:
        found = documents.matching(_compiled(grep), length)
        shown = list(islice(found, MAX_MATCHES))
        has_more = next(found, None) is not None
    elif random is not None:
        shown = documents.some(random, length, seed)
    else:
        shown = [documents.one(document or 1, length)]
    if not shown:
        typer.echo(f"no document of {stage} matches {grep!r}", err=True)
    if has_more:
        typer.echo(f"more documents match; the first {MAX_MATCHES} are shown", err=True)
    return Peek(planned, documents.unit, shown, has_more)


@dataclass(frozen=True)
class Peek(Result):
    """Documents of a stage's corpus or dataset."""

    schema = "continuum/peek/1"
    planned: PlannedStage
    unit: str
    shown: Sequence["Shown"]
    has_more: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.planned.name,
            "run": self.planned.run.name,
            "unit": self.unit,
            "documents": [_as_json(it) for it in self.shown],
            "has_more": self.has_more,
        }

    def parts(self) -> "Iterator[str | Text]":
        for number, it in enumerate(self.shown):
            if number:
                yield ""
            yield _heading(it, self.unit)
            yield _drawn(it)


def _open(plan: Plan, planned: PlannedStage, split: str) -> "Documents":
    """The documents in the output of a stage."""
    from continuum.text.peek import CorpusDocuments, DatasetDocuments

    if not planned.run.is_complete:
        raise UsageError(f"{planned.name} has not run yet; run `continuum run` first")
    artifact = planned.run.artifact()
    if isinstance(artifact, Corpus):
        return CorpusDocuments(artifact)
    if not isinstance(artifact, TokenizedDataset):
        raise UsageError(
            f"{planned.name} makes a {artifact.noun}; peek shows corpora and datasets only"
        )
    found = DatasetDocuments(artifact, split, corpus_items(plan.stages, planned.name))
    if not found.has_index:
        typer.echo(
            "note: the dataset does not record where its documents begin (it was imported, or made "
            f"by an earlier release); the {split} split is shown as one document",
            err=True,
        )
    return found


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--grep {pattern}: not a regular expression ({error})") from None


def _heading(shown: "Shown", unit: str) -> "Text":
    from rich.text import Text

    place = f", document {shown.position:,}" if shown.position is not None else ""
    source = f"  {visible(shown.source)}{place}" if shown.source else ""
    total = f"  {shown.length:,} {unit}"
    end = shown.start + shown.shown_length
    part = "" if shown.shown_length == shown.length else f", {shown.start + 1:,} to {end:,} shown"
    return Text(f"document {shown.number:,}{source}{total}{part}", style="bold")


def _drawn(shown: "Shown") -> "Text":
    """A document's text, or its tokens with a border between two."""
    from rich.text import Text

    drawn = Text()
    if shown.tokens is None:
        _add(drawn, shown.text)
        return drawn
    for number, token in enumerate(shown.tokens):
        if number:
            drawn.append(BORDER, STYLES["border"])
        if token.is_special:
            drawn.append(visible(token.text), STYLES["special"])
        else:
            _add(drawn, token.text)
    return drawn


def _add(drawn: "Text", text: str) -> None:
    for char in text:
        seen = visible(char)
        drawn.append(seen, None if seen == char else STYLES["invisible"])
        if char == "\n":
            drawn.append("\n")


def visible(text: str) -> str:
    """The text with a sign or an escape for each invisible character."""
    return "".join(map(_visible_char, text))


def _visible_char(char: str) -> str:
    if char in VISIBLE:
        return VISIBLE[char]
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    if char.isprintable():
        return char
    return char.encode("unicode_escape").decode("ascii")


def _as_json(shown: "Shown") -> dict[str, Any]:
    tokens = {} if shown.tokens is None else {"tokens": [_token_json(it) for it in shown.tokens]}
    return {
        "number": shown.number,
        "source": shown.source,
        "position": shown.position,
        "length": shown.length,
        "start": shown.start,
        "text": _replaced(shown.text),
        **tokens,
    }


def _token_json(token: "Token") -> dict[str, Any]:
    """A token; with its bytes in hexadecimal if it is part of a character."""
    found: dict[str, Any] = {"id": token.id, "text": _replaced(token.text)}
    if found["text"] != token.text:
        found["bytes"] = token.text.encode("utf-8", "surrogateescape").hex()
    return found | ({"special": True} if token.is_special else {})


def _replaced(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
