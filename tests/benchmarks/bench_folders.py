"""Large folders: lineage, verification and status over records made by a script."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.files import SETTLED_S
from continuum.runs.fingerprint import fingerprint
from continuum.runs.records import manifest_of, read_artifact, sealed
from tests.benchmarks.chains import write_chain
from tests.benchmarks.commands import continuum, measure, wall_s
from tests.benchmarks.quiet import watched
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
        with watched() as watch:
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
            quiet=watch.quiet,
        )
        growth = Row(f"{name}-growth", what, "a tenth of them", small, large, "s", 13.0)
        rows += [limit, growth]
    return rows


def fill(folder: Path, num_runs: int) -> None:
    """Copy the records of a chain's pretraining under other fingerprints."""
    (model,) = folder.glob("runs/s0-*")
    record = json.loads((model / "stage.json").read_text())
    checkpoints = _checkpoints(model, folder / "runs" / ".models")
    artifact = json.loads((model / "artifact.json").read_text())
    artifact["records"]["checkpoints"] = _seals(checkpoints)
    for number in range(num_runs):
        identity = identity_of(record, number)
        own = fingerprint(identity)
        run = folder / "runs" / f"s0-{own[:12]}"
        copy_run(
            model, run, checkpoints, {**record, "identity": identity, "fingerprint": own}, artifact
        )


def identity_of(record: Mapping[str, Any], number: int) -> dict[str, Any]:
    """That of one of the copies, of which each has another seed."""
    return {**record["identity"], "seed": -1 - number}


def _checkpoints(model: Path, target: Path) -> list[Path]:
    """Checkpoints of several steps to link to: the last is the run's own, which its artifact names.

    Each is a copy: a file may have 65,000 names on ext4.
    """
    (kept,) = (model / "checkpoints").glob("step-*")
    checkpoint = read_artifact(kept)
    assert isinstance(checkpoint, TrainingCheckpoint)
    made = []
    for number in range(CHECKPOINTS_EACH - 1, -1, -1):
        step = checkpoint.step + number
        folder = target / f"step-{step:08d}"
        shutil.copytree(kept, folder)
        manifest = manifest_of(checkpoint.model_copy(update={"step": step}))
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
        made.append(folder)
    return made


def _seals(checkpoints: Sequence[Path]) -> dict[str, str]:
    manifests = {
        path.name: json.loads((path / "manifest.json").read_text()) for path in checkpoints
    }
    return {name: manifest["seal"] for name, manifest in manifests.items()}


def copy_run(
    model: Path,
    run: Path,
    checkpoints: Sequence[Path],
    record: dict[str, Any],
    artifact: dict[str, Any],
) -> None:
    """The records anew, the large files as links: what is measured reads records alone."""
    run.mkdir()
    text = json.dumps(record).encode()
    (run / "stage.json").write_bytes(text)
    own = {
        "path": "stage.json",
        "size_bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
    }
    files = [own, *(it for it in artifact["records"]["files"] if it["path"] != "stage.json")]
    records = {**artifact["records"], "files": files}
    (run / "artifact.json").write_text(json.dumps(sealed({**artifact, "records": records})))
    for name in ("attempts.jsonl", "resolved.json", "metrics.jsonl"):
        os.link(model / name, run / name)
    _link_files(model / "output", run / "output")
    for checkpoint in checkpoints:
        _link_files(checkpoint, run / "checkpoints" / checkpoint.name)


def _link_files(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in os.scandir(source):
        os.link(path, target / path.name)
