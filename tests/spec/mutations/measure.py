"""Judging mutants: are they told, in the right line, with the right word, without a crash?"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from continuum.lint import check
from continuum.loading.codes import CODES
from continuum.loading.diagnostics import OVERRIDE as OVERRIDE_PLACE
from continuum.loading.diagnostics import Diagnostic
from tests.spec.mutations import (
    brackets,
    files,
    references,
    structure,
    syntax,
    typos,
    values,
    words,
)
from tests.spec.mutations.bases import MAIN, Base
from tests.spec.mutations.mutant import MAKERS, OVERRIDE, Mutant

MODULES = (typos, words, references, values, structure, syntax, brackets, files)
TRIES = 60


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    diagnostics: Sequence[Diagnostic]
    crash: str = ""
    seconds: float = 0.0
    """Of the processor."""
    is_told: bool = False
    in_line: bool = False
    """Whether what is told first (or all that was asked for) lies in the right line."""
    in_column: bool | None = None
    """None when the mistake has no exact column."""
    has_word: bool | None = None
    """None when it is no single-edit typo."""


def make_mutants(bases: Sequence[Base], seed: str, per_class: int) -> Iterator[Mutant]:
    """The corpus of a seed: up to `per_class` different mutants of every class."""
    for name, maker in MAKERS.items():
        made: dict[tuple[bytes, ...], Mutant] = {}
        for number in range(TRIES * per_class):
            random = Random(f"{seed}/{name}/{number}")
            one = maker(random.choice(bases), random)
            if one is None:
                continue
            content = (*one.files.values(), *(text.encode() for text in one.overrides))
            made.setdefault(content, replace(one, mistake=name, seed=f"{seed}/{name}/{number}"))
            if len(made) == per_class:
                break
        yield from made.values()


def judge(mutant: Mutant, folder: Path) -> Verdict:
    """Write the mutant's files, load it, and hold what is told against what is known."""
    for name, content in mutant.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    started = time.process_time()
    try:
        found = check(folder / MAIN, mutant.overrides).found
    except Exception as error:
        return Verdict(mutant, (), f"{type(error).__name__}: {error}")
    found = tuple(it for it in found if it.code in CODES)
    verdict = Verdict(mutant, found, seconds=time.process_time() - started)
    return _judged(verdict, folder.resolve()) if found else verdict


def judge_all(mutants: Iterable[Mutant], folder: Path) -> list[Verdict]:
    """The verdicts, each mutant in a folder of its own."""
    return [judge(mutant, folder / str(number)) for number, mutant in enumerate(mutants)]


def _judged(verdict: Verdict, folder: Path) -> Verdict:
    mutant = verdict.mutant
    found = [
        (_file_of(one, folder), one.place.line, one.place.column) for one in verdict.diagnostics
    ]
    lines = [place[:2] for place in found]
    wanted = {place[:2] for place in mutant.places}
    in_line = wanted <= set(lines) if mutant.tells_all else lines[0] in wanted
    exact = [place for place in mutant.places if place[2] is not None]
    in_column = None
    if exact and mutant.places[0][0] != OVERRIDE:
        in_column = set(exact) <= set(found) if mutant.tells_all else found[0] in exact
    has_word = None
    if mutant.word:
        first = next(
            (d for d, line in zip(verdict.diagnostics, lines, strict=True) if line in wanted), None
        )
        has_word = first is not None and _says(first.suggestion, mutant.word)
    return replace(verdict, is_told=True, in_line=in_line, in_column=in_column, has_word=has_word)


def _says(suggestion: str | None, words: Sequence[str]) -> bool:
    return suggestion is not None and any(
        suggestion == word or suggestion.endswith(f".{word}") for word in words
    )


def _file_of(diagnostic: Diagnostic, folder: Path) -> str:
    if diagnostic.place.is_override:
        assert diagnostic.place.file.startswith(OVERRIDE_PLACE)
        return OVERRIDE
    return Path(diagnostic.place.file).resolve().relative_to(folder).as_posix()


assert all(module.__doc__ for module in MODULES), "imported for the makers they register"
