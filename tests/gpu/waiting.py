"""Optimizer steps in which the processor never waits for the GPU, each of them logged."""

from typing import Any

import torch

from continuum.runs.folder import StageRun
from continuum.training.fabric import make_fabric
from continuum.training.resolved import resolve
from tests.gpu.parts import Setting, check, part
from tests.training.loops import Recorder, make_task
from tests.training.samples import blocks_of, make_recipe, make_state, token_stream

FIRST, LAST = 5, 15
"""Steps between which a wait is an error; what is set up before is none of the loop's."""


@part("waits")
def no_waits(setting: Setting) -> dict[str, Any]:
    """The loop itself, under `torch.cuda.set_sync_debug_mode("error")`."""
    recipe = make_recipe(runtime={"accelerator": setting.device}, precision="32-true")
    fabric = make_fabric(resolve(recipe, {}), recipe.runtime)
    state = make_state(fabric, fused=not setting.is_toy)
    run = StageRun(setting.work_dir / "runs" / "pretrain-000000000000")
    run.path.mkdir(parents=True)
    recorder = Recorder(run)
    blocks = blocks_of(setting.work_dir / "tokens", token_stream(2000))
    watched = []

    def after_a_step() -> bool:
        is_watched = FIRST <= state.step < LAST
        if not setting.is_toy:
            torch.cuda.set_sync_debug_mode("error" if is_watched else "default")
        watched.extend([state.step] * is_watched)
        return False

    try:
        recorder.fit_until(after_a_step, fabric, state, make_task(blocks, num_steps=LAST + 5))
    finally:
        if not setting.is_toy:
            torch.cuda.set_sync_debug_mode("default")
    check(len(watched) == LAST - FIRST, f"watched steps {watched}")
    return {"steps": len(watched), "logged": len(recorder.rows("loss"))}
