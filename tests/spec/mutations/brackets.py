"""Brackets and quotes that do not match."""

from random import Random

from tests.spec.mutations.bases import Base
from tests.spec.mutations.document import Document, Entry, Span
from tests.spec.mutations.mutant import Mutant, in_span, in_value, mistake, mutate, pick
from tests.spec.mutations.syntax import plain_line
from tests.spec.mutations.typos import is_own_key


def _flow(base: Base, random: Random, marks: str) -> tuple[str, Document, Entry] | None:
    return pick(base, random, lambda e: e.text[:1] in tuple(marks) and len(e.text) > 2)


@mistake("bracket never closed")
def _unclosed(base: Base, random: Random) -> Mutant | None:
    found = _flow(base, random, "{[")
    if found is None:
        return None
    file, document, entry = found
    text = document.replace(Span(entry.value.end - 1, entry.value.end), "")
    return mutate(base, text, document.position(entry.value.start)[0], file=file)


@mistake("bracket never opened")
def _unopened(base: Base, random: Random) -> Mutant | None:
    found = _flow(base, random, "{[")
    if found is None:
        return None
    file, document, entry = found
    text = document.replace(Span(entry.value.start, entry.value.start + 1), "")
    return mutate(base, text, document.position(entry.value.start)[0], file=file)


@mistake("bracket of the other form")
def _mismatched(base: Base, random: Random) -> Mutant | None:
    found = _flow(base, random, "{[")
    if found is None:
        return None
    file, document, entry = found
    other = "}" if entry.text.startswith("[") else "]"
    text = document.replace(Span(entry.value.end - 1, entry.value.end), other)
    return mutate(base, text, document.position(entry.value.start)[0], file=file)


@mistake("comma missing")
def _no_comma(base: Base, random: Random) -> Mutant | None:
    found = _flow(base, random, "{[")
    if found is None or ", " not in found[2].text:
        return None
    file, document, entry = found
    at = document.text.index(", ", entry.value.start)
    if document.text.index(", ", entry.value.start) > entry.value.end:
        return None
    line = document.position(entry.value.start)[0]
    return mutate(base, document.replace(Span(at, at + 1), ""), line, file=file)


@mistake("variable without quotes between brackets")
def _variable(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.in_flow and e.form == "scalar")
    if found is None:
        return None
    file, _, entry = found
    return in_value(base, file, entry, random.choice(("${rate}", "${books}/a.txt", "a${b}")))


@mistake("quote never closed")
def _unquoted(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, document, entry = found
    if entry.is_quoted:
        text = document.replace(Span(entry.value.end - 1, entry.value.end), "")
        return mutate(base, text, document.position(entry.value.start), file=file)
    return in_value(base, file, entry, random.choice(("'", '"')) + entry.text)


@mistake("own key in quotes that do not match")
def _key_quotes(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: is_own_key(e) and not e.in_flow and len(e.path) > 1)
    if found is None:
        return None
    file, _, entry = found
    assert entry.key is not None
    return in_span(base, file, entry.key, random.choice(("'", '"')) + entry.name)
