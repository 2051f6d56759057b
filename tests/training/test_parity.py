"""Our loop against LitGPT's own, on the same batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from litgpt import pretrain as litgpts
from litgpt.args import EvalArgs, TrainArgs

from continuum.training.data import Blocks, TrainingData
from continuum.training.loop import Task
from continuum.training.state import TrainingState, unwrap
from tests.training.loops import (
    CONSTANT,
    GLOBAL_BATCH,
    PER_STEP,
    STEPS,
    WARM_COSINE,
    Recorder,
    Schedule,
    make_task,
)
from tests.training.samples import cpu_fabric, make_state

pytestmark = [
    # LitGPT's throughput monitor and loader probes are not ours to quiet.
    pytest.mark.filterwarnings("ignore::UserWarning:litgpt"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
]


class OurBatches:
    """A loader for LitGPT's loop: our micro-batches, each row with its last target."""

    def __init__(self, data: TrainingData, num_steps: int) -> None:
        self._data = data
        self._num_steps = num_steps

    def __len__(self) -> int:
        return self._num_steps * self._data.num_micro_batches

    def __iter__(self) -> Iterator[torch.Tensor]:
        for step in range(self._num_steps):
            for inputs, targets in self._data.micro_batches(step):
                yield torch.cat([inputs, targets[:, -1:]], dim=1)


class LossKeeper:
    """A Fabric logger that keeps what LitGPT logs."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.rows.append(dict(metrics))


def litgpts_fit(task: Task, schedule: Schedule, out: Path) -> tuple[list[float], TrainingState]:
    """LitGPT's own loop over the task's batches; the losses it logs, and where it ends."""
    kept = LossKeeper()
    fabric = cpu_fabric(loggers=[kept])
    state = make_state(fabric)
    loader = OurBatches(task.data, STEPS + 1)  # one more, for the look that ends the loop
    num_micro = task.data.num_micro_batches
    train = TrainArgs(
        global_batch_size=GLOBAL_BATCH,
        micro_batch_size=GLOBAL_BATCH // num_micro,
        lr_warmup_steps=schedule.warmup_steps + 1,
        max_tokens=(STEPS + 1) * PER_STEP,
        max_norm=1.0,
        min_lr=schedule.min_lr,
        save_interval=None,
    )
    litgpts.fit(
        fabric=fabric,
        devices=1,
        # From its second step, since the rate of its first is 0.
        state={
            "model": state.model,
            "optimizer": state.optimizer,
            "iter_num": num_micro,
            "step_count": 1,
        },
        train_dataloader=loader,
        val_dataloader=loader,
        out_dir=out,
        tokenizer_dir=None,
        train=train,
        eval=EvalArgs(interval=1000, max_iters=1, final_validation=False),
    )
    return [row["loss"] for row in kept.rows if "loss" in row], state


@pytest.mark.parametrize("head", ["fused", "plain"])
@pytest.mark.parametrize(
    ("micro", "schedule"),
    [
        pytest.param(4, WARM_COSINE, id="no accumulation"),
        pytest.param(2, CONSTANT, id="two micro-batches"),
    ],
)
def test_the_loop_is_litgpts(
    blocks: Blocks, recorder: Recorder, tmp_path: Path, micro: int, schedule: Schedule, head: str
) -> None:
    task = make_task(blocks, micro, rate=schedule.rate())
    fabric = cpu_fabric()
    ours = make_state(fabric)
    if head == "plain":
        unwrap(ours.model).lm_head.__class__ = torch.nn.Linear
    losses = recorder.fit(fabric, ours, task)
    expected, theirs = litgpts_fit(task, schedule, tmp_path)
    assert len(expected) == STEPS
    assert losses == pytest.approx(expected, rel=1e-6)
    if head == "plain":
        for name, tensor in theirs.model.state_dict().items():
            torch.testing.assert_close(ours.model.state_dict()[name], tensor, rtol=1e-6, atol=1e-8)
    # The fused head rounds its sums in another order. Of the biases of keys, whose gradients are
    # nothing but rounding, Adam makes other values: they change nothing that the model says.
    inputs, _ = next(iter(task.data.micro_batches(STEPS)))
    torch.testing.assert_close(ours.model(inputs), theirs.model(inputs), rtol=1e-5, atol=1e-5)
