"""`continuum explain`: the meaning of a code, a field, a kind or a topic."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from continuum.cli.console import AsJson, Result
from continuum.errors import UsageError
from continuum.lint import LINT_CODES
from continuum.loading.aliases import note_on, our_names, plain
from continuum.loading.codes import CODES, Code
from continuum.loading.dump import in_one_line
from continuum.loading.explain import TOPICS, Field, Kind, all_fields, all_kinds, find_fields
from continuum.suggestions import closest

WIDTH = 96
NAME_WIDTH = 28
ALL_CODES: Mapping[str, Code] = {**CODES, **LINT_CODES}
"""The codes of errors, then those of plans and warnings."""


@dataclass(frozen=True)
class Answer(Result):
    """Everything with one name, or everything there is."""

    schema = "continuum.explain/1"
    topic: str | None
    codes: Mapping[str, Code]
    kinds: tuple[Kind, ...]
    fields: tuple[Field, ...]
    topics: Mapping[str, str]
    other_name: str | None = None
    """The meaning of a name of another program."""

    def as_json(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "codes": [{"code": code, **asdict(meaning)} for code, meaning in self.codes.items()],
            "kinds": [asdict(kind) for kind in self.kinds],
            "fields": [asdict(field) for field in self.fields],
            "concepts": [{"name": name, "text": text} for name, text in self.topics.items()],
            "other_name": self.other_name,
        }

    def parts(self) -> Iterator[str]:
        yield "\n".join(_listing(self) if self.topic is None else _pages(self))


def explain(
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A code (E101), a field (optimizer.lr, lr), a kind of stage (retrain) or a topic "
            "(amount).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> Answer:
    """Explain a code, a field, a kind of stage or a topic; without NAME, list them all."""
    if topic is None:
        return Answer(None, ALL_CODES, all_kinds(), all_fields(), TOPICS)
    code = topic.upper()
    answer = Answer(
        topic,
        {code: ALL_CODES[code]} if code in ALL_CODES else {},
        tuple(kind for kind in all_kinds() if kind.name == topic.removeprefix("stages.")),
        tuple(find_fields(topic)),
        {topic: TOPICS[topic]} if topic in TOPICS else {},
    )
    if not any((answer.codes, answer.kinds, answer.fields, answer.topics)):
        if (translated := _of_another_program(topic)) is not None:
            return translated
        meant = closest(topic, _names())
        hint = f"did you mean {meant!r}?" if meant else "`continuum explain` lists all names"
        raise UsageError(f"no code, kind, field or topic {topic!r}; {hint}")
    return answer


def _of_another_program(topic: str) -> Answer | None:
    """What a name of LitGPT, Hugging Face, Axolotl, … is here; None if it is not known.

    `--train.max_seq_length` is known by its last part.
    """
    word = plain(topic.lstrip("-"))
    names = (word, word.rpartition(".")[2])
    known = [kind.name for kind in all_kinds() if word in kind.aliases]
    fields = next(filter(None, (our_names(name) for name in names)), ())
    note = next(filter(None, map(note_on, names)), None)
    section = word.partition(".")[0]
    if not fields and note is None and (note_on(section) or our_names(section)):
        fields = names[1:] if find_fields(names[1]) else ()
    if not (known or fields or note):
        return None
    text = note or f"see {', '.join([*(f'kind: {kind}' for kind in known), *fields])}"
    return Answer(
        topic,
        {},
        tuple(kind for kind in all_kinds() if kind.name in known),
        tuple(field for ours in fields for field in find_fields(ours)),
        {},
        f"{topic}, of other programs: {text}",
    )


def _names() -> Iterator[str]:
    """Every name that can be explained, the ends of paths included."""
    yield from (kind.name for kind in all_kinds())
    yield from (*TOPICS, *ALL_CODES)
    for field in all_fields():
        yield from (field.path, field.path.rpartition(".")[2])
        yield from (f"{kind}.{field.path}" for kind in field.kinds)


def _listing(answer: Answer) -> Iterator[str]:
    """Everything, one line each."""
    yield "Codes"
    yield from (_row(code, meaning.summary) for code, meaning in answer.codes.items())
    yield "\nTopics"
    yield from (_row(name, text) for name, text in answer.topics.items())
    yield "\nFields of the experiment"
    yield from (_row(it.path, it.description) for it in answer.fields if not it.kinds)
    for kind in answer.kinds:
        yield f"\n{kind.name}: {kind.summary}"
        own = (it for it in answer.fields if kind.name in it.kinds)
        yield from (_row(it.path, it.description) for it in own)


def _row(name: str, text: str) -> str:
    return f"  {name:{NAME_WIDTH}} {re.split(r'(?<=[.]) ', text)[0]}"


def _pages(answer: Answer) -> Iterator[str]:
    pages: list[Iterable[str]] = [_wrapped(answer.other_name)] if answer.other_name else []
    pages += [_code_page(code, it) for code, it in answer.codes.items()]
    pages += [_wrapped(f"{name}: {text}") for name, text in answer.topics.items()]
    pages += [_kind_page(kind) for kind in answer.kinds]
    pages += [_field_page(field) for field in answer.fields]
    for number, page in enumerate(pages):
        yield from ("", *page) if number else page


def _code_page(code: str, meaning: Code) -> Iterator[str]:
    yield f"{code}: {meaning.summary}\n"
    yield from _wrapped(meaning.advice)
    for title, example in (("Wrong", meaning.wrong), ("Right", meaning.right)):
        if example:
            yield f"\n{title}:"
            yield textwrap.indent(example.rstrip("\n"), "  ")


def _kind_page(kind: Kind) -> Iterator[str]:
    yield f"{kind.name} (a kind of stage): {kind.summary}"
    if kind.description:
        yield from ("", *_wrapped(kind.description))
    yield "\nFields:"
    for name in kind.fields:
        for field in find_fields(f"{kind.name}.{name}"):
            yield _row(name, field.description) + (" (required)" if field.is_required else "")


def _field_page(field: Field) -> Iterator[str]:
    yield f"{field.path} (of {', '.join(field.kinds) or 'the experiment'})"
    yield from _wrapped(field.description, indent="  ")
    facts = {
        "type": field.type,
        "default": "none (required)" if field.is_required else in_one_line(field.default),
        "role": field.role,
        "unit": field.unit,
        "examples": ", ".join(map(in_one_line, field.examples)),
        "fields": ", ".join(field.below),
    }
    for name, fact in facts.items():
        if fact:
            first, *others = _wrapped(fact, indent=" " * 12)
            yield f"  {name:8}  {first.lstrip()}"
            yield from others


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False
    )
