"""A profile of pythia-160m's training step: time in head, attention and the rest, and idle."""

import json
import time
from dataclasses import replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from continuum.experiment.architecture import architecture
from continuum.training.fabric import make_fabric
from continuum.training.model import make_state, next_token_loss
from continuum.training.resolved import resolve
from tests.gpu.parts import Setting, check, part
from tests.gpu.trace import device_work, shares, slowest
from tests.training.samples import FIELDS, make_recipe

WARM_UP, STEPS = 4, 4
LONGEST = 90
"""Characters of a kernel's name that are kept."""


@part("profile")
def profile_step(setting: Setting) -> dict[str, Any]:
    """Forward, backward, clipping and the optimizer's step, of the default precision."""
    fields = FIELDS if setting.is_toy else architecture("pythia-160m").fields
    length, rows = (8, 2) if setting.is_toy else (2048, 16)
    recipe = make_recipe(
        sequence_length=length,
        global_batch_size=rows,
        runtime={"accelerator": setting.device, "micro_batch_size": rows},
    )
    resolved = replace(resolve(recipe, {}), compile=not setting.is_toy)
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, fields, resolved, seed=1)
    tokens = torch.randint(0, 60, (rows, length + 1), device=setting.device)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def step() -> None:
        fabric.backward(next_token_loss(state.model, inputs, targets))
        optimizer: Any = state.optimizer
        fabric.clip_gradients(state.model, optimizer, max_norm=1.0, error_if_nonfinite=False)
        state.optimizer.step()
        state.optimizer.zero_grad()

    for _ in range(WARM_UP):
        step()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (not setting.is_toy)
    with profile(activities=activities) as profiler:
        begun_at = time.perf_counter()
        for _ in range(STEPS):
            step()
        if not setting.is_toy:
            torch.cuda.synchronize()
        wall_us = (time.perf_counter() - begun_at) * 1e6
    path = setting.work_dir / "trace.json"
    profiler.export_chrome_trace(str(path))
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    work = device_work(events, on_gpu=not setting.is_toy)
    check(bool(work), "the profiler saw nothing of the device")
    found = shares(work, wall_us)
    check(found["attention"] > 0, f"no kernel of attention is known: {slowest(work, 12)}")
    check(found["head"] > 0, f"no kernel of the head is known: {slowest(work, 12)}")
    top = {name[:LONGEST]: us / STEPS / 1e3 for name, us in slowest(work, 12)}
    return {
        "precision": resolved.precision,
        "step_ms": wall_us / STEPS / 1e3,
        "tokens_s": rows * length * STEPS / wall_us * 1e6,
        **{f"{name}_share": share for name, share in found.items()},
        "slowest_ms": top,
    }
