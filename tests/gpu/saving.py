"""A save in mid-run: equal to a copy that waits, and how long training stood still for it."""

import time
from dataclasses import replace
from typing import Any

import torch

from continuum.experiment.architecture import architecture
from continuum.runs.folder import StageRun
from continuum.runs.retention import Retention
from continuum.training.fabric import make_fabric
from continuum.training.model import make_state
from continuum.training.recovery import read_checkpoint
from continuum.training.resolved import resolve
from continuum.training.saving import Saver
from continuum.training.snapshot import tensors_in
from continuum.training.state import TrainingState
from tests.gpu.parts import Setting, check, part
from tests.support import saving_context
from tests.training.samples import FIELDS, companions, make_recipe, tokenizer_folder


@part("saving")
def in_mid_run(setting: Setting) -> dict[str, Any]:
    """Saved twice, with the optimizer stepping on at once: the first save allocates."""
    fields = FIELDS if setting.is_toy else architecture("pythia-410m").fields
    recipe = make_recipe(runtime={"accelerator": setting.device, "micro_batch_size": 2})
    resolved = replace(resolve(recipe, {}), compile=False)
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, fields, resolved, seed=1)
    run = StageRun(setting.work_dir / "runs" / "pretrain-000000000000")
    run.path.mkdir(parents=True)
    tokenizer_dir = setting.work_dir / "tokenizer"
    tokenizer_dir.mkdir()
    beside = companions(tokenizer_folder(tokenizer_dir), fields)
    ctx = saving_context(run)
    saver = Saver(fabric, ctx, recipe, beside, Retention())

    stalls = []
    for _ in range(2):
        _step(state, setting.device)
        expected = _copies(state)
        begun_at = time.perf_counter()
        saver.save(state)
        stalls.append(time.perf_counter() - begun_at)
        _step(state, setting.device)  # while the last one is written
        saver.wait()
        saved = read_checkpoint(run.checkpoint_dir(state.step - 1))
        found = [*tensors_in(saved["model"]), *tensors_in(saved["optimizer"])]
        pairs = zip(found, expected, strict=True)
        check(all(torch.equal(*pair) for pair in pairs), "what was saved is not what was there")
    held = sum(tensor.nbytes for tensor in expected)
    buffer = saver._buffer
    pinned = buffer.num_bytes if buffer is not None and buffer.is_pinned else 0
    check(
        setting.is_toy or held <= pinned < 1.01 * held + 2**20,
        f"{pinned:,} bytes are page-locked for {held:,}",
    )
    return {
        "first_stall_s": stalls[0],
        "stall_s": stalls[1],
        "state_gb": held / 1e9,
        "pinned_gb": pinned / 1e9,
    }


def _step(state: TrainingState, device: str) -> None:
    state.model(torch.randint(0, 60, (2, 8), device=device)).square().mean().backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.step += 1


def _copies(state: TrainingState) -> list[torch.Tensor]:
    """Model and optimizer as a snapshot orders them, copied one by one."""
    snapshot = state.snapshot()
    return [*tensors_in(snapshot["model"]), *tensors_in(snapshot["optimizer"])]
