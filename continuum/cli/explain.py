"""`continuum explain`: what a code, a field, a kind or a word of the spec means."""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from continuum.cli.console import Result
from continuum.errors import UsageError
from continuum.lint import LINT_CODES
from continuum.loading.codes import CODES, Code
from continuum.loading.explain import CONCEPTS, Field, Kind, all_fields, all_kinds, find_fields
from continuum.loading.known import suggest

WIDTH = 96
NAME_WIDTH = 28
ALL_CODES: Mapping[str, Code] = {**CODES, **LINT_CODES}
"""What is told about a spec: mistakes, and what is unwise."""


@dataclass(frozen=True)
class Answer(Result):
    """Everything that goes by a name."""

    schema = "continuum.explain/1"
    topic: str | None
    codes: Mapping[str, Code]
    kinds: tuple[Kind, ...]
    fields: tuple[Field, ...]
    concepts: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "codes": [{"code": code, **asdict(meaning)} for code, meaning in self.codes.items()],
            "kinds": [asdict(kind) for kind in self.kinds],
            "fields": [asdict(field) for field in self.fields],
            "concepts": [{"name": name, "text": text} for name, text in self.concepts.items()],
        }

    def parts(self) -> Iterator[str]:
        yield "\n".join(_listing(self) if self.topic is None else _pages(self))


def explain(
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="CODE|FIELD",
            help="Such as E101, stages.pretrain.optimizer.lr, optimizer.lr, lr, retrain, amount.",
        ),
    ] = None,
) -> Answer:
    """Explain a code, a field or a kind of the spec; without an argument, list all."""
    if topic is None:
        return Answer(None, ALL_CODES, all_kinds(), all_fields(), CONCEPTS)
    return _look_up(topic)


def _look_up(topic: str) -> Answer:
    """Whatever goes by this name.

    Raises:
        UsageError: nothing does.
    """
    code = topic.upper()
    answer = Answer(
        topic,
        {code: ALL_CODES[code]} if code in ALL_CODES else {},
        tuple(kind for kind in all_kinds() if kind.name == topic.removeprefix("stages.")),
        tuple(find_fields(topic)),
        {topic: CONCEPTS[topic]} if topic in CONCEPTS else {},
    )
    if any((answer.codes, answer.kinds, answer.fields, answer.concepts)):
        return answer
    meant = _closest(topic)
    hint = f"did you mean {meant!r}?" if meant else "`continuum explain` lists all there is"
    raise UsageError(f"there is no code, kind, field or word {topic!r}; {hint}")


def _closest(topic: str) -> str | None:
    """The name most like an unknown one: beside its siblings if what is above it is known."""
    above, _, _ = topic.rpartition(".")
    siblings = [f"{above}.{name}" for name in _names_below(above)]
    paths = [
        path
        for field in all_fields()
        for path in (field.path, *(f"{kind}.{field.path}" for kind in field.kinds))
    ]
    ends = sorted({path.rpartition(".")[2] for path in paths})
    names = [*(kind.name for kind in all_kinds()), *CONCEPTS, *ends, *ALL_CODES]
    return suggest(topic, siblings or (paths if above else names))


def _names_below(path: str) -> Iterator[str]:
    for kind in all_kinds():
        if kind.name == path.removeprefix("stages."):
            yield from kind.fields
    for field in find_fields(path) if path else ():
        yield from field.below


def _listing(answer: Answer) -> Iterator[str]:
    """Everything, a line each."""
    yield "Codes"
    yield from (_row(code, meaning.summary) for code, meaning in answer.codes.items())
    yield "\nWords"
    yield from (_row(name, text) for name, text in answer.concepts.items())
    yield "\nFields of the experiment"
    yield from _field_rows(field for field in answer.fields if not field.kinds)
    for kind in answer.kinds:
        yield f"\n{kind.name}: {kind.summary}"
        yield from _field_rows(field for field in answer.fields if kind.name in field.kinds)


def _field_rows(fields: Iterable[Field]) -> Iterator[str]:
    return (_row(field.path, field.description) for field in fields)


def _row(name: str, text: str) -> str:
    return f"  {name:{NAME_WIDTH}} {re.split(r'(?<=[.]) ', text)[0]}"


def _pages(answer: Answer) -> Iterator[str]:
    pages: list[Iterable[str]] = [_code_page(code, said) for code, said in answer.codes.items()]
    pages += [_wrapped(f"{name}: {text}") for name, text in answer.concepts.items()]
    pages += [_kind_page(kind) for kind in answer.kinds]
    pages += [_field_page(field) for field in answer.fields]
    for number, page in enumerate(pages):
        if number:
            yield ""
        yield from page


def _code_page(code: str, meaning: Code) -> Iterator[str]:
    yield f"{code}: {meaning.summary}"
    if meaning.advice:
        yield ""
        yield from _wrapped(meaning.advice)
    for title, example in (("Wrong", meaning.wrong), ("Right", meaning.right)):
        if example:
            yield f"\n{title}:"
            yield textwrap.indent(_visible(example.rstrip("\n")), "  ")


def _visible(text: str) -> str:
    """Control characters as the pictures Unicode has for them, tabs too."""
    return "".join(
        chr(0x2400 + ord(letter)) if letter < " " and letter != "\n" else letter for letter in text
    )


def _kind_page(kind: Kind) -> Iterator[str]:
    yield f"{kind.name} (a kind of stage): {kind.summary}"
    if kind.description:
        yield ""
        yield from _wrapped(kind.description)
    yield "\nFields:"
    for name in kind.fields:
        for field in find_fields(f"{kind.name}.{name}"):
            yield _row(name, field.description) + (" (required)" if field.is_required else "")


def _field_page(field: Field) -> Iterator[str]:
    of = f"of {', '.join(field.kinds)}" if field.kinds else "of the experiment"
    yield f"{field.path} ({of})"
    yield from _wrapped(field.description, indent="  ")
    facts = {
        "type": field.type,
        "default": "none: it is required" if field.is_required else _as_yaml(field.default),
        "role": field.role,
        "unit": field.unit,
        "examples": ", ".join(map(_as_yaml, field.examples)),
        "fields": ", ".join(field.below),
    }
    for name, fact in facts.items():
        if fact:
            first, *others = _wrapped(fact, indent=" " * 12)
            yield f"  {name:8}  {first.lstrip()}"
            yield from others


def _as_yaml(value: Any) -> str:
    """A value as it would stand in a spec, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_as_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_yaml, value)) + "]"
    return value if isinstance(value, str) and value else json.dumps(value)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False
    )
