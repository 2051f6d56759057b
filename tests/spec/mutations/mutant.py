"""A wrong spec with what is known of its mistake, and how the makers of mistakes are registered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from tests.spec.mutations.bases import MAIN, Base
from tests.spec.mutations.document import Document, Entry, Span

Maker = Callable[[Base, Random], "Mutant | None"]
MAKERS: dict[str, Maker] = {}
"""Makers by the class of mistake; None when the spec has nothing to make it in."""
OVERRIDE = "--set"


@dataclass(frozen=True)
class Mutant:
    """A spec with a mistake; where it lies is known from how it was made."""

    files: Mapping[str, bytes]
    places: tuple[tuple[str, int, int | None], ...]
    """File, line and column, from one. One of several alternatives, or all when `tells_all`."""
    word: tuple[str, ...] = ()
    """What was meant; several where several are right. Empty when it is no single-edit typo."""
    overrides: tuple[str, ...] = ()
    tells_all: bool = False
    """Whether every place must be told."""
    mistake: str = field(default="", compare=False)
    seed: str = ""


def mistake(name: str) -> Callable[[Maker], Maker]:
    """Register a maker of this class of mistake."""

    def register(maker: Maker) -> Maker:
        assert name not in MAKERS, name
        MAKERS[name] = maker
        return maker

    return register


def mutate(
    base: Base,
    text: str | bytes,
    place: int | tuple[int, int | None],
    *,
    file: str = MAIN,
    word: str | tuple[str, ...] = (),
    also: Mapping[str, bytes] | None = None,
) -> Mutant:
    """The base with one file's text replaced, and the place of the mistake in it."""
    files = {name: content.encode() for name, content in base.files.items()}
    files[file] = text.encode() if isinstance(text, str) else text
    line, column = place if isinstance(place, tuple) else (place, None)
    meant = (word,) if isinstance(word, str) else word
    return Mutant({**files, **(also or {})}, ((file, line, column),), meant)


def in_value(base: Base, file: str, entry: Entry, new: str, *, word: str = "") -> Mutant:
    """The base with a value replaced."""
    document = base.documents[file]
    place = document.position(entry.value.start)
    return mutate(base, document.replace(entry.value, new), place, file=file, word=word or ())


def in_span(
    base: Base, file: str, span: Span, new: str, *, word: str | tuple[str, ...] = ()
) -> Mutant:
    """The base with a range of letters replaced; the mistake lies where the range begins."""
    document = base.documents[file]
    place = document.position(span.start)
    return mutate(base, document.replace(span, new), place, file=file, word=word)


def override(base: Base, text: str, *, word: str = "") -> Mutant:
    """The base as it is, with a wrong `--set`."""
    files = {name: content.encode() for name, content in base.files.items()}
    return Mutant(files, ((OVERRIDE, 1, None),), (word,) if word else (), (text,))


def at_any_of(made: Mutant, lines: list[int], *, tells_all: bool = False) -> Mutant:
    """The mutant with several places, of which one (or all) must be told."""
    ((file, *_),) = {place[:1] for place in made.places}
    places = tuple((file, line, None) for line in lines)
    return replace(made, places=places, tells_all=tells_all)


def pick(
    base: Base, random: Random, wanted: Callable[[Entry], bool]
) -> tuple[str, Document, Entry] | None:
    """A random entry, of any file, that is as wanted."""
    found = [
        (name, document, entry)
        for name, document in base.documents.items()
        for entry in document.entries
        if wanted(entry)
    ]
    return random.choice(found) if found else None
