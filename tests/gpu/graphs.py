"""Compiled training: the same losses as without, one graph, and none more for an evaluation."""

import re
from typing import Any

from tests.gpu import flows
from tests.gpu.parts import Setting, check, part

STEPS = 20
TOLERANCE = 1e-2
WATCHED = {"TORCH_LOGS": "recompiles"}
RECOMPILED = re.compile(r"Recompiling function (\w+)")
RAGGED = 37
"""Sequences: a prime, so the last batch is smaller whatever the batches are."""


@part("compile")
def with_and_without(setting: Setting) -> dict[str, Any]:
    """Twenty steps of both; the compiled training has one graph."""
    found = {}
    for compiled in ("off", "on"):
        folder = flows.write(
            setting, setting.work_dir / compiled, max_steps=STEPS, runtime={"compile": compiled}
        )
        flows.run(folder, **WATCHED)
        found[compiled] = flows.losses(folder)
    recompiled = RECOMPILED.findall(flows.log(setting.work_dir / "on"))
    differences = [abs(a - b) for a, b in zip(found["off"], found["on"], strict=True)]
    check(len(differences) == STEPS, f"{len(differences)} losses of {STEPS} steps")
    check(not recompiled, f"the training was compiled again: {recompiled}")
    check(max(differences) < TOLERANCE, f"losses differ by {max(differences)}")
    return {"largest_difference": max(differences), "last_loss": found["on"][-1]}


@part("ragged")
def after_an_owed_evaluation(setting: Setting) -> dict[str, Any]:
    """An evaluation with a smaller last batch comes first, and training is as without it."""
    found = {}
    for name, at_start in (("plain", False), ("owed", True)):
        folder = flows.write(
            setting,
            setting.work_dir / name,
            max_steps=6,
            evaluate={"sequences": RAGGED, "at_start": at_start},
            runtime={"compile": "on", "deterministic": True},
        )
        flows.run(folder, **WATCHED)
        found[name] = flows.losses(folder)
    text = flows.log(setting.work_dir / "owed")
    check("size mismatch" not in text, "a batch of another size was compiled for")
    check(found["plain"] == found["owed"], f"training differs after an evaluation: {found}")
    return {"losses": found["owed"], "recompilations": len(RECOMPILED.findall(text))}
