"""The ratios that were reached before: baseline.json, quick runs and full ones apart."""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.rows import Row

TOLERANCE = 0.25
"""By how much a ratio may get worse before CI fails."""


class Baseline:
    """One of the two sections of the file."""

    def __init__(self, path: Path, *, quick: bool) -> None:
        self._path = path
        self._section = "quick" if quick else "full"
        self._all: dict[str, dict[str, float]] = {"full": {}, "quick": {}}
        if path.exists():
            self._all |= json.loads(path.read_text(encoding="utf-8"))

    @property
    def _ratios(self) -> dict[str, float]:
        return self._all[self._section]

    def worse(self, rows: Sequence[Row]) -> list[Row]:
        """Those that got worse by more than the tolerance; a row that is not stored did not."""
        known = (row for row in rows if row.name in self._ratios)
        return [row for row in known if row.is_regression(self._ratios[row.name], TOLERANCE)]

    def regressions(self, rows: Sequence[Row]) -> list[str]:
        """What to say about them."""
        return [
            f"{row.name}: the ratio is {row.ratio:.3g}, {self._ratios[row.name]:.3g} is stored"
            for row in self.worse(rows)
        ]

    def store(self, rows: Sequence[Row], *, keep_worse: bool = False) -> None:
        """Write the ratios of these rows; those of others stay.

        Args:
            keep_worse: Leave a stored ratio that is worse: over a few runs the file comes to hold
                how far this machine's noise goes.
        """
        for row in rows:
            stored = self._ratios.get(row.name)
            is_kept = keep_worse and stored is not None and not row.is_regression(stored, 0.0)
            if row.has_verdict and not row.is_absolute and not is_kept:
                self._ratios[row.name] = float(f"{row.ratio:.3g}")
        text = json.dumps(self._all, indent=2, sort_keys=True) + "\n"
        self._path.write_text(text, encoding="utf-8")
