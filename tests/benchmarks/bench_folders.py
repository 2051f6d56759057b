"""Large folders: lineage, verification and status over records made by a script."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from continuum.digest_cache import SETTLED_S
from continuum.records import CheckpointManifest
from tests.benchmarks.chains import write_chain
from tests.benchmarks.commands import continuum, measure, wall_s
from tests.benchmarks.rows import Row, Setting, benchmark, paired

NUM_RUNS, NUM_RUNS_QUICK = 10_000, 1_000
CHECKPOINTS_EACH = 10
LIMIT_S = 2.0
"""What a person waits for without wondering."""
COMMANDS = (["lineage"], ["verify", "--fast"], ["status"])


@benchmark("folder")
def bench_folder(setting: Setting) -> Sequence[Row]:
    """A folder of many runs: absolute seconds against the limit, and against a tenth of it."""
    num_runs = NUM_RUNS_QUICK if setting.quick else NUM_RUNS
    whole = write_chain(setting.work_dir / "whole", 5)
    measure(continuum("run", whole))
    tenth = shutil.copytree(whole, setting.work_dir / "tenth")
    fill(tenth, num_runs // 10)
    fill(whole, num_runs)
    time.sleep(SETTLED_S)  # what has just changed is not remembered
    first_s = wall_s(continuum("verify", "--fast", whole))
    rows = []
    for command in COMMANDS:
        small, large = paired(
            partial(wall_s, continuum(*command, tenth)),
            partial(wall_s, continuum(*command, whole)),
            1 if setting.quick else 3,
        )
        name = f"folder/{command[0]}"
        size = f"{num_runs:,} runs, {num_runs * CHECKPOINTS_EACH:,} checkpoints"
        what = f"{' '.join(command)}: {size}"
        note = f"{measure(continuum(*command, whole)).cpu_s:.1f} s of processor time"
        if command[0] == "verify":
            note += f"; {first_s:.1f} s the first time, which reads every record"
        limit = Row(
            name,
            what,
            "the limit",
            LIMIT_S,
            large,
            "s",
            1.0,
            note=note,
            is_absolute=True,
            needs_quiet=True,
        )
        growth = Row(f"{name}-growth", what, "a tenth of them", small, large, "s", 13.0)
        rows += [limit, growth]
    return rows


def fill(folder: Path, num_runs: int) -> None:
    """Copy the records of a chain's pretraining under other fingerprints."""
    (model,) = folder.glob("runs/s0-*")
    record = json.loads((model / "stage.json").read_text())
    checkpoints = _checkpoints(model, folder / "runs" / ".models")
    for number in range(num_runs):
        fingerprint = hashlib.sha256(str(number).encode()).hexdigest()
        run = folder / "runs" / f"s0-{fingerprint[:12]}"
        _copy_run(model, run, checkpoints, {**record, "fingerprint": fingerprint})


def _checkpoints(model: Path, target: Path) -> list[Path]:
    """Checkpoints of several steps to link to: the last is the run's own, which its artifact names.

    Each is a copy: a file may have 65,000 names on ext4.
    """
    (kept,) = (model / "checkpoints").glob("step-*")
    manifest = CheckpointManifest.model_validate_json((kept / "manifest.json").read_bytes())
    made = []
    for number in range(CHECKPOINTS_EACH - 1, -1, -1):
        step = manifest.step + number
        folder = target / f"step-{step:08d}"
        shutil.copytree(kept, folder)
        sealed = manifest.model_copy(update={"step": step}).sealed()
        (folder / "manifest.json").write_text(sealed.model_dump_json(indent=2))
        made.append(folder)
    return made


def _copy_run(
    model: Path, run: Path, checkpoints: Sequence[Path], record: dict[str, object]
) -> None:
    """The records anew, the large files as links: what is measured reads records alone."""
    run.mkdir()
    (run / "stage.json").write_text(json.dumps(record))
    for name in ("attempts.jsonl", "resolved.json", "artifact.json"):
        os.link(model / name, run / name)
    _link_files(model / "output", run / "output")
    for checkpoint in checkpoints:
        _link_files(checkpoint, run / "checkpoints" / checkpoint.name)


def _link_files(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in os.scandir(source):
        os.link(path, target / path.name)
