"""`python -m tests.benchmarks.mistakes`: the corpus of mistakes, ours and others' side by side.

Of each system: the share of mistakes that are told at all, that are told with the right line, and
of misspelt words those whose right word is told. Others are treated kindly: a word counts wherever
it stands in a message, which may list twenty. Nothing is asked where DVC has nothing like it.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Sequence
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
    with tempfile.TemporaryDirectory() as folder:
        ours = [_outcome(verdict) for verdict in judge_all([*rights, *wrongs], Path(folder))]
    omegaconf = ask_omegaconf(PEERS, [*rights, *wrongs])
    dvc = ask_dvc(PEERS, bases, wrongs)
    refused = [sum(found.is_told for found in all_[: len(rights)]) for all_ in (ours, omegaconf)]
    if any(refused):
        raise RuntimeError(f"right specs are refused: {refused}, of continuum and of OmegaConf")
    sides: dict[str, Sequence[Outcome | None]] = {
        "continuum": ours[len(rights) :],
        f"OmegaConf {version(peer(PEERS, 'omegaconf', 'omegaconf'), 'omegaconf')}": omegaconf[
            len(rights) :
        ],
        f"DVC {version(peer(PEERS, 'dvc', 'dvc'), 'dvc')}": dvc,
    }
    Console(width=130).print(_table(wrongs, sides))


def _as_mutant(base: Base) -> Mutant:
    return Mutant({name: text.encode() for name, text in base.files.items()}, ())


def _outcome(verdict: Verdict) -> Outcome:
    return Outcome(verdict.is_told, verdict.in_line, verdict.has_word, bool(verdict.crash))


def _table(mutants: Sequence[Mutant], sides: dict[str, Sequence[Outcome | None]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for side in sides:
        for figure in FIGURES:
            table.add_column(f"{side}\n{figure}", justify="right")
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
