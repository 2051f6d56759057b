"""Figures of more stages than there are colours."""

import re

import pytest

from continuum.reporting.charts import DASHES, MAX_NAMED, SERIES, WIDE, loss_figure, svg
from continuum.reporting.curves import Training


def trainings(number: int) -> list[Training]:
    rows = [{"step": it, "tokens": it, "loss": 3.0 / it, "lr": 1e-3} for it in (1, 2, 3)]
    return [Training(f"s{it}", 0.0, True, rows, 0.0, ("tokens",)) for it in range(number)]


@pytest.mark.parametrize("number", [len(SERIES) + 3, MAX_NAMED + 1])
def test_more_stages_than_colours_are_told_apart_or_drawn_alike(number: int) -> None:
    drawn = svg(loss_figure(trainings(number), WIDE), 0)
    dashes = set(re.findall(r'stroke-dasharray="([^"]*)"', drawn))
    named = {",".join(map(str, it)) for it in DASHES[: 1 + (number - 1) // len(SERIES)]}
    assert dashes == (named if number <= MAX_NAMED else set())
    assert drawn.count('aria-roledescription="line mark"') == 2 * number
