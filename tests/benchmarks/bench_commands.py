"""The light commands: starting, planning, and doing nothing."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.commands import continuum, wall_s
from tests.benchmarks.rows import Row, Setting, benchmark, paired


@benchmark("help")
def bench_help(setting: Setting) -> Sequence[Row]:
    """`--help`, the price of any mistyped command."""
    litgpt = str(Path(sys.executable).with_name("litgpt"))
    reference, ours = paired(
        partial(wall_s, [litgpt, "--help"]),
        partial(wall_s, continuum("--help")),
        setting.rounds,
    )
    return [Row("help", "continuum --help", "litgpt --help", reference, ours, "s", 0.06)]
