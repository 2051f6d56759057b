"""`python -m tests.benchmarks.mistakes`: the corpus of mistakes, ours and others' side by side.

Of each system: the share of mistakes that are told at all, that are told with the right line, and
of misspelt words those whose right word is told. Others are treated kindly: a word counts wherever
it stands in a message, which may list twenty. Nothing is asked where DVC has nothing like it.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.mistakes.others import Outcome, ask_dvc, ask_omegaconf
from tests.benchmarks.peers import peer, version
from tests.spec.mutations.bases import Base, every_field, shipped
from tests.spec.mutations.measure import Verdict, judge_all, make_mutants
from tests.spec.mutations.mutant import Mutant
from tests.spec.mutations.table import share

PEERS = Path(tempfile.gettempdir()) / "continuum-benchmark-peers"
Ask = Callable[[Sequence[Mutant]], Sequence[Outcome | None]]
FIGURES: dict[str, Callable[[Outcome], bool | None]] = {
    "told": lambda outcome: outcome.is_told,
    "line": lambda outcome: outcome.in_line,
    "word": lambda outcome: outcome.has_word,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.mistakes", description=__doc__
    )
    parser.add_argument("--seed", default="1")
    parser.add_argument("--per-class", type=int, default=5)
    given = parser.parse_args()
    bases = (*shipped(), every_field())
    rights = [_as_mutant(base) for base in bases]
    wrongs = list(make_mutants(bases, given.seed, given.per_class))
    sides: dict[str, Sequence[Outcome | None]] = {}
    for name, ask in _sides(bases).items():
        found = ask([*rights, *wrongs])
        if any(outcome is None or outcome.is_told for outcome in found[: len(rights)]):
            raise RuntimeError(f"{name} refuses a right spec")
        sides[name] = found[len(rights) :]
    Console(width=180).print(_table(wrongs, sides))


def _sides(bases: Sequence[Base]) -> dict[str, Ask]:
    return {
        "continuum": _ask_continuum,
        f"OmegaConf {version(peer(PEERS, 'omegaconf', 'omegaconf'), 'omegaconf')}": partial(
            ask_omegaconf, PEERS
        ),
        f"DVC {version(peer(PEERS, 'dvc', 'dvc'), 'dvc')}": partial(ask_dvc, PEERS, bases),
    }


def _ask_continuum(mutants: Sequence[Mutant]) -> list[Outcome | None]:
    with tempfile.TemporaryDirectory() as folder:
        return [_outcome(verdict) for verdict in judge_all(mutants, Path(folder))]


def _as_mutant(base: Base) -> Mutant:
    return Mutant({name: text.encode() for name, text in base.files.items()}, ())


def _outcome(verdict: Verdict) -> Outcome:
    return Outcome(verdict.is_told, verdict.in_line, verdict.has_word, bool(verdict.crash))


def _table(mutants: Sequence[Mutant], sides: dict[str, Sequence[Outcome | None]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for side in sides:
        for figure in FIGURES:
            table.add_column(f"{side}\n{figure}", justify="right", no_wrap=True)
    names = list(dict.fromkeys(mutant.mistake for mutant in mutants))
    for name in names:
        chosen = [number for number, mutant in enumerate(mutants) if mutant.mistake == name]
        table.add_row(name, *_cells(chosen, sides))
    table.add_section()
    table.add_row(f"all {len(names)} classes", *_cells(range(len(mutants)), sides))
    return table


def _cells(numbers: Iterable[int], sides: dict[str, Sequence[Outcome | None]]) -> list[str]:
    chosen = list(numbers)
    return [
        share(figure(found) for number in chosen if (found := outcomes[number]) is not None)
        for outcomes in sides.values()
        for figure in FIGURES.values()
    ]


main()
