"""Precision 16-mixed: overflows under a loss scale, and the scale in what is saved.

Fabric has no fp16 for CPUs, but torch has: the same plugin with a scaler of the CPU.
"""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Fabric
from lightning.fabric.plugins.precision import MixedPrecision
from litgpt.scripts.convert_pretrained_checkpoint import convert_pretrained_checkpoint

from continuum.errors import StageFailedError
from continuum.preflight.compatibility import precision_problems
from continuum.runs.folder import StageRun
from continuum.training.checkpoint import Companions, write_checkpoint
from continuum.training.data import Blocks
from continuum.training.state import SCALER, TrainingState
from tests.training.loops import Recorder, make_task
from tests.training.samples import (
    FIELDS,
    assert_equal_tensors,
    cpu_fabric,
    make_recipe,
    make_state,
    take_steps,
)

TOO_HIGH = 2.0**40


def half_fabric(scale: float = 2.0**10) -> Fabric:
    """fp16 on the CPU; the scale doubles after every third step without an overflow."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    fabric.launch()
    return fabric


def scale_of(state: TrainingState) -> float:
    assert state.scaler is not None
    return state.scaler.get_scale()


def test_overflows_under_a_scale_leave_the_weights_and_training_goes_on(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = half_fabric(TOO_HIGH)
    state = make_state(fabric)
    before = {name: value.clone() for name, value in state.snapshot()["model"].items()}
    first = make_task(blocks, num_steps=3, checkpoint_every=1)
    recorder.fit(fabric, state, first)
    assert (state.step, state.skipped_steps, recorder.saved) == (3, 3, [1, 2, 3])
    assert_equal_tensors(state.snapshot()["model"], before)
    assert recorder.rows("loss")[-1]["loss"] is None
    assert scale_of(state) == TOO_HIGH / 8
    recorder.fit(fabric, state, make_task(blocks))
    assert state.step == 30
    assert 3 < state.skipped_steps < 27
    losses = [row["loss"] for row in recorder.rows("loss") if row["loss"] is not None]
    assert len(losses) == 30 - state.skipped_steps
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("skips", [False, True], ids=["stop", "skip"])
def test_gradients_that_overflow_at_any_scale_end_the_run(
    skips: bool, blocks: Blocks, recorder: Recorder
) -> None:
    fabric = half_fabric(8.0)
    state = make_state(fabric)
    parameter: Any = next(state.model.parameters())
    parameter.register_hook(lambda grad: torch.full_like(grad, torch.inf))
    with pytest.raises(StageFailedError, match="gradients of step 4 are NaN or inf in fp16"):
        recorder.fit(fabric, state, make_task(blocks, skips_nonfinite=skips))
    assert recorder.saved == []


def test_a_restored_run_scales_as_the_unbroken_one_does() -> None:
    fabric, other = half_fabric(), half_fabric()
    unbroken = make_state(fabric)
    take_steps(fabric, unbroken, 4)
    buffer = io.BytesIO()
    torch.save(unbroken.snapshot(), buffer)
    take_steps(fabric, unbroken, 4)
    buffer.seek(0)
    restored = make_state(other, seed=9)
    restored.restore(torch.load(buffer, weights_only=True))
    assert scale_of(restored) == 2.0**11
    take_steps(other, restored, 4)
    assert restored.snapshot()[SCALER] == unbroken.snapshot()[SCALER]
    assert_equal_tensors(restored.snapshot()["model"], unbroken.snapshot()["model"])


def test_a_snapshot_without_a_scale_begins_at_the_first_one() -> None:
    fabric = half_fabric()
    state = make_state(fabric)
    take_steps(fabric, state, 4)
    snapshot = state.snapshot()
    del snapshot[SCALER]
    other = half_fabric()
    restored = make_state(other, seed=9)
    restored.restore(snapshot)
    assert scale_of(restored) == 2.0**10
    assert SCALER not in make_state(cpu_fabric()).snapshot()


def test_litgpt_reads_a_checkpoint_with_a_scale(
    run: StageRun, beside: Companions, tmp_path: Path
) -> None:
    fabric = half_fabric()
    state = make_state(fabric)
    take_steps(fabric, state, 2)
    snapshot: dict[str, Any] = state.snapshot()
    saved = write_checkpoint(run, snapshot, beside)
    convert_pretrained_checkpoint(saved.path, tmp_path / "converted")
    weights = torch.load(tmp_path / "converted" / "lit_model.pth", weights_only=True)
    assert weights.keys() == snapshot["model"].keys()
    assert weights["lm_head.weight"].shape == (FIELDS["padded_vocab_size"], FIELDS["n_embd"])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, None),
        ({"runtime": {"devices": 2, "strategy": "fsdp", "micro_batch_size": 2}}, "strategy fsdp"),
        ({"optimizer": {"lr": 0.1, "fused": True}}, "a fused optimizer"),
        ({"optimizer": {"lr": 0.1, "fused": False}}, None),
    ],
    ids=["sound", "fsdp", "fused", "not fused"],
)
def test_what_cannot_scale_the_loss_is_refused(fields: dict[str, Any], told: str | None) -> None:
    problems = list(precision_problems(make_recipe(precision="16-mixed", **fields)))
    assert len(problems) == (told is not None)
    assert all(f"precision 16-mixed cannot be used with {told}" in str(found) for found in problems)
    assert list(precision_problems(make_recipe(precision="bf16-mixed", **fields))) == []


@pytest.mark.gpu
def test_half_precision_on_a_device_is_recovered_exactly(
    blocks: Blocks, recorder: Recorder
) -> None:
    def fabric() -> Fabric:
        made = Fabric(accelerator="cuda", devices=1, precision="16-mixed")
        made.launch()
        return made

    whole, broken = fabric(), fabric()
    unbroken = make_state(whole)
    recorder.fit(whole, unbroken, make_task(blocks))
    stopped = make_state(broken)
    recorder.fit(broken, stopped, make_task(blocks, num_steps=11))
    other = fabric()
    restored = make_state(other, seed=9)
    restored.restore(stopped.snapshot())
    recorder.fit(other, restored, make_task(blocks))
    assert restored.snapshot()[SCALER] == unbroken.snapshot()[SCALER]
    assert_equal_tensors(restored.snapshot()["model"], unbroken.snapshot()["model"])
