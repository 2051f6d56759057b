"""The light commands: starting, planning, and doing nothing."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.chains import write_chain, write_dvc_chain, write_snakemake_chain
from tests.benchmarks.commands import continuum, measure, wall_s
from tests.benchmarks.peers import peer, version
from tests.benchmarks.rows import Row, Setting, benchmark, paired

FEW = 5
MANY = 1_000
VERY_MANY = 10_000


@benchmark("help")
def bench_help(setting: Setting) -> Sequence[Row]:
    """`--help`, the price of any mistyped command."""
    litgpt = str(Path(sys.executable).with_name("litgpt"))
    reference, ours = paired(
        partial(wall_s, [litgpt, "--help"]), partial(wall_s, continuum("--help")), setting.rounds
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
    rows = []
    for command in ("validate", "plan", "run"):
        reference, value = paired(
            partial(wall_s, repro, cwd=theirs),
            partial(wall_s, continuum(command, ours)),
            setting.rounds,
        )
        rows.append(
            Row(
                f"nothing-to-do/{command}",
                f"{command}, {FEW} finished stages",
                f"dvc {version(bin_dir, 'dvc')} repro",
                reference,
                value,
                "s",
                0.7,
            )
        )
    return rows


@benchmark("chain")
def bench_chain(setting: Setting) -> Sequence[Row]:
    """The plan of a chain that has not run, against DVC and Snakemake; and how it grows."""
    dvc = peer(setting.peers_dir, "dvc", "dvc")
    snakemake = peer(setting.peers_dir, "snakemake", "snakemake")
    many = write_chain(setting.work_dir / "many", MANY)
    very_many = write_chain(setting.work_dir / "very-many", VERY_MANY)
    in_dvc = write_dvc_chain(setting.work_dir / "dvc", MANY, dvc / "dvc")
    in_snakemake = write_snakemake_chain(setting.work_dir / "snakemake", MANY)
    ours = partial(wall_s, continuum("plan", many))
    rounds = 1 if setting.quick else 3
    rows = []
    for name, bin_dir, arguments, folder in (
        ("dvc", dvc, ["repro", "--dry"], in_dvc),
        ("snakemake", snakemake, ["-n", "-q"], in_snakemake),
    ):
        command: list[str | Path] = [bin_dir / name, *arguments]
        reference, value = paired(partial(wall_s, command, cwd=folder), ours, rounds)
        label = f"{name} {version(bin_dir, name)} {' '.join(arguments)}"
        what = f"plan, chain of {MANY:,} stages"
        rows.append(Row(f"chain/{name}", what, label, reference, value, "s", 0.1))
    small, large = paired(ours, partial(wall_s, continuum("plan", very_many)), rounds)
    what = f"plan, chain of {VERY_MANY:,} stages"
    rows.append(Row("chain/growth", what, f"plan of {MANY:,}", small, large, "s", 13.0))
    return rows
