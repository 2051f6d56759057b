"""`compare` over many finished runs of one stage, each with another learning rate."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from continuum.runs.fingerprint import fingerprint
from continuum.runs.records import sealed
from tests.benchmarks.chains import write_chain
from tests.benchmarks.commands import continuum, measure, wall_s
from tests.benchmarks.quiet import watched
from tests.benchmarks.rows import Row, Setting, benchmark, paired
from tests.forging import reseal

NUM_RUNS, TEN_TIMES = 1_000, 10_000
NUM_STEPS, EVERY = 200, 20
LIMIT_S = 2.0
"""What a person waits for without wondering."""


@benchmark("compare")
def bench_compare(setting: Setting) -> Sequence[Row]:
    """A thousand runs: absolute seconds against the limit, and how ten times as many grow."""
    small = write_chain(setting.work_dir / "small", 4)
    measure(continuum("run", small))
    fill_with_rates(small, NUM_RUNS)
    command = ("compare", "--stage", "s0", "--all", "--csv")
    what = f"compare: {NUM_RUNS:,} runs of {NUM_STEPS} steps"
    with watched() as watch:
        rounds = 1 if setting.quick else setting.rounds
        start_s, small_s = paired(
            partial(wall_s, continuum("compare", "--help")),
            partial(wall_s, continuum(*command, small)),
            rounds,
        )
    limit = Row(
        "compare",
        what,
        "the limit",
        LIMIT_S,
        small_s,
        "s",
        1.0,
        note=f"{start_s:.2f} s of them start the command",
        is_absolute=True,
        quiet=watch.quiet,
    )
    if setting.quick:
        return [limit]
    large = write_chain(setting.work_dir / "large", 4)
    measure(continuum("run", large))
    fill_with_rates(large, TEN_TIMES)
    tenth_s, large_s = paired(
        partial(wall_s, continuum(*command, small)),
        partial(wall_s, continuum(*command, large)),
        3,
    )
    what = f"compare: {TEN_TIMES:,} runs"
    growth = Row("compare/growth", what, "a tenth of them", tenth_s, large_s, "s", 13.0)
    return [limit, growth]


def fill_with_rates(folder: Path, num_runs: int) -> None:
    """Copy the records of a chain's pretraining, each with its own learning rate."""
    (model,) = folder.glob("runs/s0-*")
    _write_metrics(model)
    reseal(model)
    (folder / "continuum.lock").unlink()  # has the seal from before
    record = json.loads((model / "stage.json").read_text())
    artifact = json.loads((model / "artifact.json").read_text())
    artifact["records"]["checkpoints"] = {}
    for number in range(num_runs):
        _copy_run(model, _with_rate(record, 1e-3 + 1e-6 * (number + 1)), artifact)


def _write_metrics(run: Path) -> None:
    """As many rows as a short training writes."""
    template = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    rows = []
    for step in range(1, NUM_STEPS + 1):
        rows.append({**template, "step": step, "tokens": 32 * step, "loss": 6 - step / 100})
        if step % EVERY == 0:
            common = {name: template[name] for name in ("attempt", "at")}
            loss = {"val_loss": 6 - step / 100}
            rows.append({**common, "step": step, "tokens": 32 * step, **loss})
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (run / "metrics.jsonl").write_text(text, encoding="utf-8")


def _with_rate(record: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """The record of a run with another learning rate."""
    identity = record["identity"]
    stage = {**identity["stage"], "optimizer": {**identity["stage"]["optimizer"], "lr": rate}}
    identity = {**identity, "stage": stage}
    changed = {
        name: {**record[name], "optimizer": {**record[name]["optimizer"], "lr": rate}}
        for name in ("spec", "recipe")
    }
    return {**record, **changed, "identity": identity, "fingerprint": fingerprint(identity)}


def _copy_run(model: Path, record: Mapping[str, Any], artifact: Mapping[str, Any]) -> None:
    """The records anew, the other files as links: what is measured reads records alone."""
    run = model.parent / f"s0-{record['fingerprint'][:12]}"
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
    (run / "output").mkdir()
    for path in os.scandir(model / "output"):
        os.link(path, run / "output" / path.name)
