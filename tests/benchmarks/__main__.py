"""Run the benchmarks and print the table.

    python -m tests.benchmarks [--quick] [--only NAME …] [--one-in N [--turn T]] [--json]
                               [--check | --store [--keep-worse]]

`--check` compares with baseline.json and exits 1 when a ratio got worse by more than 25 %, and is
so when it is measured once more. `--store` writes it, and with `--keep-worse` only what is worse
than stored. Ratios of quick runs and full ones are kept apart. `--one-in 4` measures a quarter of
the benchmarks; the next commits measure the others. A benchmark that fails is reported at the end,
and exits 1; the others' rows stand.
"""

import argparse
import importlib
import json
import pkgutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tests.benchmarks as package
from tests.benchmarks.baseline import Baseline
from tests.benchmarks.rows import Row, Setting, benchmark
from tests.shares import current_turn, share, store_seconds, stored_seconds

SCHEMA = "continuum.benchmarks/1"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    chosen = _parse(arguments)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("bench_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
    unknown = set(chosen.only) - benchmark.found.keys()
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are:", file=sys.stderr)
        print(*benchmark.found, sep="\n", file=sys.stderr)
        return 2
    names = whose_turn(chosen.only or list(benchmark.found), chosen.one_in, chosen.turn)
    rows, problems, seconds = _run(names, quick=chosen.quick)
    baseline = Baseline(chosen.baseline, quick=chosen.quick)
    if chosen.check:
        rows = _measure_again(rows, baseline, quick=chosen.quick)
        problems += baseline.regressions(rows)
    if chosen.json:
        document = {"schema": SCHEMA, "quick": chosen.quick, "rows": [r.as_json() for r in rows]}
        print(json.dumps(document, indent=2))
    else:
        Console(width=180).print(_table(rows))
    if chosen.store:
        baseline.store(rows, keep_worse=chosen.keep_worse)
        if chosen.quick:
            store_seconds(seconds)
    for line in problems:
        print(line, file=sys.stderr)
    return 1 if problems else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller inputs, fewer rounds")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these alone")
    parser.add_argument("--one-in", type=int, default=1, metavar="N", help="one share of so many")
    parser.add_argument("--turn", type=int, help="which share; by default that of the commit")
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument("--check", action="store_true", help="fail on a regression")
    parser.add_argument("--store", action="store_true", help="write the ratios to the baseline")
    parser.add_argument("--keep-worse", action="store_true", help="store only what is worse")
    parser.add_argument(
        "--baseline",
        type=Path,
        default=Path(__file__).with_name("baseline.json"),
        help="the file with the stored ratios",
    )
    return parser.parse_args(arguments)


def whose_turn(names: Sequence[str], one_in: int, turn: int | None) -> list[str]:
    """Those whose turn it is, in their order."""
    if one_in == 1:
        return list(names)
    turn = current_turn() if turn is None else turn
    print(f"one share of {one_in}: --turn {turn % one_in}", file=sys.stderr)
    chosen = share(names, one_in, turn, stored_seconds())
    return [name for name in names if name in chosen]


def _run(names: Sequence[str], *, quick: bool) -> tuple[list[Row], list[str], dict[str, float]]:
    """The rows, why the benchmarks that failed did, and how long each took."""
    rows: list[Row] = []
    failures, seconds = [], {}
    peers = Path(tempfile.gettempdir()) / "continuum-benchmark-peers"
    for name in names:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="continuum-bench-") as folder:
            setting = Setting(Path(folder), quick, peers, rounds=3 if quick else 5)
            try:
                rows += benchmark.found[name](setting)
            except Exception as error:  # one that fails must not take the others' figures along
                failures.append(f"{name}: {type(error).__name__}: {error}")
        seconds[name] = time.perf_counter() - start
        print(f"{name}: {seconds[name]:.0f} s", file=sys.stderr, flush=True)
    return rows, failures, seconds


def _measure_again(rows: Sequence[Row], baseline: Baseline, *, quick: bool) -> list[Row]:
    """The rows, those that seem to have got worse as the better of two measurements."""
    suspects = {row.name.partition("/")[0] for row in baseline.worse(rows)}
    again, *_ = _run(sorted(suspects), quick=quick)
    measured = {row.name: row for row in again}
    return [row.better_of(measured.get(row.name, row)) for row in rows]


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("what", "reference", "", "ours", "ratio", "target", "verdict", "note"):
        table.add_column(heading, overflow="fold", header_style="bold")
    for row in rows:
        sign = ">=" if row.more_is_better else "<="
        table.add_row(
            row.what,
            row.reference,
            f"{row.reference_value:.4g} {row.unit}",
            f"{row.ours_value:.4g} {row.unit}",
            f"{row.ratio:.3g}",
            f"{sign} {row.target:g}",
            row.verdict,
            "; ".join(filter(None, (row.note, str(row.quiet or "")))),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
