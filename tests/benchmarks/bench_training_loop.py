"""What the loop costs besides its operations: logging apart, next to nothing."""

from collections.abc import Callable, Sequence
from time import process_time
from typing import Any

import torch

from continuum.training.model import next_token_loss
from continuum.training.state import unwrap, unwrap_optimizer
from tests.benchmarks.rows import Row, Setting, benchmark, paired
from tests.benchmarks.training_parts import (
    FIELDS,
    TOKENS_PER_STEP,
    begin,
    fit_steps,
    small_steps,
)
from tests.benchmarks.training_spec import MICRO_BATCH, SEQUENCE_LENGTH

STEPS = 2
"""In a round."""


@benchmark("loop")
def bench_loop(setting: Setting) -> Sequence[Row]:
    """Two steps of `fit`, then two of the bare operations; CPU time of one thread.

    Wall time on a shared machine is too rough for so small a difference. Reading batches, setting
    the learning rate, counting and asking whether to stop are `fit`'s own cost.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        reference, ours = paired(_bare(), _fit(setting), 2 * setting.rounds)
    finally:
        torch.set_num_threads(threads)
    tokens = STEPS * TOKENS_PER_STEP
    return [
        Row(
            "loop",
            "the loop, one micro-batch a step",
            "bare operations",
            tokens / reference,
            tokens / ours,
            "tokens/CPU s",
            0.98,
            more_is_better=True,
        )
    ]


def _fit(setting: Setting) -> Callable[[], float]:
    recipe = small_steps()
    fabric, state = begin(recipe)
    return fit_steps(setting, fabric, state, recipe, clock=process_time, steps=STEPS)


def _bare() -> Any:
    _, state = begin(small_steps())
    model, optimizer = unwrap(state.model), unwrap_optimizer(state.optimizer)
    parameters = list(model.parameters())
    tokens = torch.randint(0, FIELDS["vocab_size"], (STEPS, MICRO_BATCH, SEQUENCE_LENGTH + 1))
    batches = [(t[:, :-1].contiguous(), t[:, 1:].contiguous()) for t in tokens]

    def take_steps() -> float:
        start = process_time()
        for inputs, targets in batches:
            next_token_loss(model, inputs, targets).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return process_time() - start

    return take_steps
