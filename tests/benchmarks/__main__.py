"""Run the benchmarks and print the table.

    python -m tests.benchmarks [--quick] [--only NAME …] [--json] [--check | --store]

`--check` compares with baseline.json and exits 1 when a ratio got worse by more than 25 %;
`--store` writes it. Ratios of quick runs and full ones are kept apart.
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
from tests.benchmarks.rows import Row, Setting, benchmark

BASELINE = Path(__file__).with_name("baseline.json")
TOLERANCE = 0.25
"""By how much a ratio may get worse before CI fails."""
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
    names = chosen.only or list(benchmark.found)
    rows, failures = _run(names, quick=chosen.quick)
    if chosen.json:
        document = {"schema": SCHEMA, "quick": chosen.quick, "rows": [r.as_json() for r in rows]}
        print(json.dumps(document, indent=2))
    else:
        Console(width=180).print(_table(rows))
    if chosen.store:
        _store(rows, quick=chosen.quick)
    regressions = _regressions(rows, quick=chosen.quick) if chosen.check else []
    for line in (*failures, *regressions):
        print(line, file=sys.stderr)
    return 1 if failures or regressions else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller inputs, fewer rounds")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these alone")
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.add_argument("--check", action="store_true", help="fail on a regression")
    parser.add_argument("--store", action="store_true", help="write baseline.json")
    return parser.parse_args(arguments)


def _run(names: Sequence[str], *, quick: bool) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    failures = []
    peers = Path(tempfile.gettempdir()) / "continuum-benchmark-peers"
    for name in names:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="continuum-bench-") as folder:
            setting = Setting(Path(folder), quick, peers, rounds=3 if quick else 5)
            try:
                rows += benchmark.found[name](setting)
            except Exception as error:  # one that fails must not take the others' figures along
                failures.append(f"{name}: {type(error).__name__}: {error}")
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return rows, failures


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
            "met" if row.is_met else "MISSED",
            row.note,
        )
    return table


def _regressions(rows: Sequence[Row], *, quick: bool) -> list[str]:
    stored = _baseline()[_key(quick)]
    return [
        f"{row.name}: the ratio is {row.ratio:.3g}, {stored[row.name]:.3g} is stored"
        for row in rows
        if row.name in stored and row.is_regression(stored[row.name], TOLERANCE)
    ]


def _store(rows: Sequence[Row], *, quick: bool) -> None:
    stored = _baseline()
    stored[_key(quick)] |= {row.name: float(f"{row.ratio:.3g}") for row in rows}
    BASELINE.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _baseline() -> dict[str, dict[str, float]]:
    if not BASELINE.exists():
        return {"full": {}, "quick": {}}
    stored: dict[str, dict[str, float]] = json.loads(BASELINE.read_text(encoding="utf-8"))
    return stored


def _key(quick: bool) -> str:
    return "quick" if quick else "full"


if __name__ == "__main__":
    sys.exit(main())
