"""`kill -9` in the middle of a deterministic training: the same bytes as if it never was."""

import json
from pathlib import Path
from typing import Any

from continuum.runs.files import sha256_file
from tests.commands import Cli, kill_group, only, wait_until
from tests.gpu import flows
from tests.gpu.parts import Setting, check, part

STEPS, EVERY = 30, 5


@part("recovery")
def recovery(setting: Setting) -> dict[str, Any]:
    """Killed once a checkpoint is there, run again, held against a run that was never killed."""
    unbroken, killed = (_write(setting, name) for name in ("unbroken", "killed"))
    flows.run(unbroken)
    process = Cli().start("run", killed)
    try:
        wait_until(lambda: _num_checkpoints(killed) > 0, timeout_s=240)
    finally:
        kill_group(process)
    reached = max((row["step"] for row in flows.rows(killed)), default=0)
    flows.run(killed)
    attempts = only(killed, "runs/pretrain-*/attempts.jsonl").read_text(encoding="utf-8")
    recovered = [e for e in map(json.loads, attempts.splitlines()) if e["event"] == "recovered"]
    check(len(recovered) == 1, f"recovered {len(recovered)} times")
    check(recovered[0]["exact"], f"the recovery is not called exact: {recovered[0]['why']}")
    digests = [
        sha256_file(only(folder, "runs/pretrain-*/output/lit_model.pth"))
        for folder in (unbroken, killed)
    ]
    check(digests[0] == digests[1], f"other bytes after a recovery: {digests}")
    return {"sha256": digests[0], "killed_at": reached, "resumed_from": recovered[0]["step"]}


def _write(setting: Setting, name: str) -> Path:
    return flows.write(
        setting,
        setting.work_dir / name,
        max_steps=STEPS,
        runtime={"deterministic": True, "checkpoint": {"every": EVERY}},
    )


def _num_checkpoints(folder: Path) -> int:
    return len(list(folder.glob("runs/pretrain-*/checkpoints/step-*")))
