"""The light commands: starting, planning, and doing nothing."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.chains import write_chain, write_dvc_chain, write_snakemake_chain
from tests.benchmarks.commands import continuum, measure, wall_s
from tests.benchmarks.peers import peer, version
from tests.benchmarks.rows import Row, Setting, benchmark, in_turns, paired

FEW = 5
MANY, MANY_QUICK = 1_000, 300
"""Stages of a chain. DVC takes half a minute for the thousand, so a quick run compares fewer."""


@benchmark("help")
def bench_help(setting: Setting) -> Sequence[Row]:
    """`--help`, the price of any mistyped command."""
    litgpt = str(Path(sys.executable).with_name("litgpt"))
    reference, ours = paired(
        partial(wall_s, [litgpt, "--help"]),
        partial(wall_s, continuum("--help")),
        1 if setting.quick else setting.rounds,
    )
    return [Row("help", "continuum --help", "litgpt --help", reference, ours, "s", 0.06)]


@benchmark("nothing-to-do")
def bench_nothing_to_do(setting: Setting) -> Sequence[Row]:
    """Five finished stages: validate, plan and run against `dvc repro`."""
    bin_dir = peer(setting.peers_dir, "dvc", "dvc")
    theirs = write_dvc_chain(setting.work_dir / "dvc", FEW, bin_dir / "dvc")
    ours = write_chain(setting.work_dir / "ours", FEW)
    repro: list[str | Path] = [bin_dir / "dvc", "repro"]
    measure(repro, cwd=theirs)
    measure(continuum("run", ours))
    commands = ("validate", "plan", "run")
    reference, *values = in_turns(
        [
            partial(wall_s, repro, cwd=theirs),
            *(partial(wall_s, continuum(command, ours)) for command in commands),
        ],
        setting.rounds,
    )
    label = f"dvc {version(bin_dir, 'dvc')} repro"
    return [
        Row(f"nothing-to-do/{name}", f"{name}, {FEW} finished", label, reference, value, "s", 0.7)
        for name, value in zip(commands, values, strict=True)
    ]


@benchmark("chain-dvc")
def bench_chain_dvc(setting: Setting) -> Sequence[Row]:
    """The plan of a chain that has not run, against DVC's."""
    num_stages = MANY_QUICK if setting.quick else MANY
    bin_dir = peer(setting.peers_dir, "dvc", "dvc")
    theirs = write_dvc_chain(setting.work_dir / "dvc", num_stages, bin_dir / "dvc")
    command: list[str | Path] = [bin_dir / "dvc", "repro", "--dry"]
    label = f"dvc {version(bin_dir, 'dvc')} repro --dry"
    return [_chain_row(setting, "chain-dvc", num_stages, command, theirs, label)]


@benchmark("chain-snakemake")
def bench_chain_snakemake(setting: Setting) -> Sequence[Row]:
    """The plan of a chain that has not run, against Snakemake's."""
    num_stages = MANY_QUICK if setting.quick else MANY
    bin_dir = peer(setting.peers_dir, "snakemake", "snakemake")
    theirs = write_snakemake_chain(setting.work_dir / "snakemake", num_stages)
    command: list[str | Path] = [bin_dir / "snakemake", "-n"]
    label = f"snakemake {version(bin_dir, 'snakemake')} -n"
    note = (
        "Snakemake compares names of files; half of our time is Python's start and the models, "
        "the rest checks, sizes and fingerprints of every stage"
    )
    return [_chain_row(setting, "chain-snakemake", num_stages, command, theirs, label, note)]


@benchmark("chain-growth")
def bench_chain_growth(setting: Setting) -> Sequence[Row]:
    """How the plan of a chain grows: ten times the stages."""
    num_stages = 500 if setting.quick else MANY
    tenth = write_chain(setting.work_dir / "tenth", num_stages)
    whole = write_chain(setting.work_dir / "whole", 10 * num_stages)
    small, large = paired(
        partial(wall_s, continuum("plan", tenth)),
        partial(wall_s, continuum("plan", whole)),
        1 if setting.quick else setting.rounds,
    )
    what, reference = f"plan, chain of {10 * num_stages:,} stages", f"plan of {num_stages:,}"
    return [Row("chain-growth", what, reference, small, large, "s", 13.0)]


def _chain_row(
    setting: Setting,
    name: str,
    num_stages: int,
    command: Sequence[str | Path],
    folder: Path,
    label: str,
    note: str = "",
) -> Row:
    """Our plan of a chain against another system's command in the folder of its own chain."""
    ours = write_chain(setting.work_dir / "ours", num_stages)
    reference, value = paired(
        partial(wall_s, command, cwd=folder),
        partial(wall_s, continuum("plan", ours)),
        1 if setting.quick else 3,
        warm_up=not setting.quick,
    )
    what = f"plan, chain of {num_stages:,} stages"
    if setting.quick:
        note = f"the target is for {MANY:,} stages. {note}".strip()
    return Row(name, what, label, reference, value, "s", 0.1, note=note)
