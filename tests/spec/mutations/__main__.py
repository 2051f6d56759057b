"""`python -m tests.spec.mutations [--seed S] [--per-class N] [--misses]`: the table by class."""

import argparse
import tempfile
from pathlib import Path

from tests.spec.mutations.bases import every_field, shipped
from tests.spec.mutations.measure import Verdict, judge_all, make_mutants
from tests.spec.mutations.table import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--per-class", type=int, default=12)
    parser.add_argument("--shipped-only", action="store_true", help="no spec made for these tests")
    parser.add_argument("--misses", action="store_true", help="show what is not as it should be")
    given = parser.parse_args()
    bases = shipped() if given.shipped_only else (*shipped(), every_field())
    with tempfile.TemporaryDirectory() as folder:
        mutants = make_mutants(bases, given.seed, given.per_class)
        verdicts = judge_all(mutants, Path(folder))
    for verdict in verdicts:
        if given.misses and _is_miss(verdict):
            print(_told(verdict))
    print(table(verdicts))


def _is_miss(verdict: Verdict) -> bool:
    is_right = verdict.in_line and verdict.in_column is not False and verdict.has_word is not False
    return bool(verdict.crash) or not is_right


def _told(verdict: Verdict) -> str:
    mutant = verdict.mutant
    lines = [f"--- {mutant.seed}: {mutant.places} {mutant.word} {mutant.overrides} {verdict.crash}"]
    for file, line, _ in mutant.places:
        if file in mutant.files:
            text = mutant.files[file].decode(errors="replace").split("\n")
            lines += [
                f"      {n}| {text[n - 1]}"
                for n in range(max(1, line - 2), line + 2)
                if n <= len(text)
            ]
    lines += [
        f"    {d.place.line}:{d.place.column} {d.code} {d.message} [{d.suggestion}]"
        for d in verdict.diagnostics
    ]
    return "\n".join(lines)


main()
