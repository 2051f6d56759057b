"""How near training comes to its limit: this machine's rate of matrix products, in the same run."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from continuum.experiment.architecture import architecture
from continuum.training.state import TrainingState, unwrap
from tests.benchmarks.commands import now
from tests.benchmarks.quiet import watched
from tests.benchmarks.rows import Row, Setting, benchmark, in_turns
from tests.benchmarks.training_parts import begin, fit_steps, small_steps
from tests.benchmarks.training_spec import MICRO_BATCH, SEQUENCE_LENGTH

MICRO_BATCHES = 4
"""In a step: the optimizer's part, which multiplies nothing, is as small as in real training."""
TARGET = 0.8
"""Attention, normalisation, the loss and the optimizer are not products of matrices."""


@benchmark("limit")
def bench_limit(setting: Setting) -> Sequence[Row]:
    """Steps of training and the model's own matrix products by themselves, in turns."""
    model = "pythia-14m" if setting.quick else "pythia-160m"
    return [limit_row(setting, model, SEQUENCE_LENGTH, setting.rounds)]


def limit_row(setting: Setting, model: str, length: int, rounds: int) -> Row:
    """The row of one model.

    Operations are counted as for MFU, but of attention only the causal half, which is what is
    computed.
    """
    found = architecture(model)
    recipe = small_steps(length, MICRO_BATCHES)
    fabric, state = begin(recipe, found.fields)
    take_step = fit_steps(setting, fabric, state, recipe, found.fields, clock=now, steps=1)
    whole, without = (found.training_flops_per_token(n) for n in (length, 0))
    assert whole is not None, f"{model} is counted"
    assert without is not None
    per_step = (whole + without) / 2 * recipe.tokens_per_step
    products, per_round = model_products(state, MICRO_BATCH * length)
    with watched() as watch:
        products_s, step_s = in_turns([products, take_step], rounds)
    return Row(
        "limit",
        f"training of {model}: share of the rate of its matrix products",
        "torch.mm of the model's shapes",
        per_round / products_s / 1e9,
        per_step / step_s / 1e9,
        "GFLOP/s",
        TARGET,
        more_is_better=True,
        note=f"{torch.get_num_threads()} threads, fp32, {recipe.tokens_per_step:,} tokens a step",
        quiet=watch.quiet,
    )


def model_products(state: TrainingState, num_tokens: int) -> tuple[Callable[[], float], int]:
    """All products of forward and backward of one micro-batch, nothing else; their operations.

    Operands of one shape are shared between layers, as caches see weights of other layers.
    """
    layers = [m for m in unwrap(state.model).modules() if isinstance(m, nn.Linear)]
    inputs = {m.in_features: torch.randn(num_tokens, m.in_features) for m in layers}
    outputs = {m.out_features: torch.randn(num_tokens, m.out_features) for m in layers}
    to_output = {n: torch.empty_like(t) for n, t in outputs.items()}
    to_input = {n: torch.empty_like(t) for n, t in inputs.items()}
    to_weight = {tuple(m.weight.shape): torch.empty_like(m.weight) for m in layers}

    @torch.no_grad()
    def multiply() -> float:
        start = now()
        for layer in layers:
            given, wanted = inputs[layer.in_features], outputs[layer.out_features]
            torch.mm(given, layer.weight.t(), out=to_output[layer.out_features])
            torch.mm(wanted, layer.weight, out=to_input[layer.in_features])
            torch.mm(wanted.t(), given, out=to_weight[tuple(layer.weight.shape)])
        return now() - start

    return multiply, 3 * 2 * num_tokens * sum(m.weight.numel() for m in layers)
