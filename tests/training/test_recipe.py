import inspect
from collections.abc import Iterator
from itertools import chain, combinations, product
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.throughput import measure_flops
from litgpt import Config
from litgpt.model import GPT
from pydantic import ValidationError

from continuum.experiment.architecture import (
    Architecture,
    architecture,
    model_names,
    read_architecture,
)
from continuum.experiment.model_fields import ModelFields
from continuum.experiment.one_of import tuples_of
from continuum.experiment.optimizers import (
    OPTIMIZER_ARGUMENTS,
    SWITCHES,
    Optimizer,
    optimizer_problems,
)
from continuum.experiment.recipe import Recipe, ResumeSchedule, Schedule, intervals_of
from continuum.training.litgpt import save_config
from tests.training.samples import FIELDS, make_recipe

# Not for this loop, or of no use in it: a closure, sparse gradients, matrices only, sign or
# average based.
LEFT_OUT = {"ASGD", "Adafactor", "LBFGS", "Muon", "Rprop", "SparseAdam"}


def torchs_optimizers() -> set[str]:
    classes = {name: getattr(torch.optim, name) for name in dir(torch.optim)}
    return {
        name
        for name, cls in classes.items()
        if isinstance(cls, type)
        and issubclass(cls, torch.optim.Optimizer)
        and cls is not torch.optim.Optimizer
    }


@pytest.mark.parametrize("name", OPTIMIZER_ARGUMENTS)
def test_the_arguments_of_an_optimizer_are_torchs(name: str) -> None:
    signature = inspect.signature(getattr(torch.optim, name))
    assert set(OPTIMIZER_ARGUMENTS[name]) == signature.parameters.keys() - {"params", "lr"}


def test_every_optimizer_of_torch_is_listed_or_left_out_on_purpose() -> None:
    assert torchs_optimizers() <= OPTIMIZER_ARGUMENTS.keys() | LEFT_OUT


VALUES: dict[str, tuple[Any, ...]] = {
    "betas": ([0.9, 0.95], [0, 0], [0.9, 1], [1.0, 0.9]),
    "rho": (0, 0.9, 1, 1.1),
}
"""Of the others, switches are on or off, and numbers as below."""
NUMBERS = (0, 0.5, 1, 3, -0.1)


def choices(optimizer: str) -> Iterator[dict[str, Any]]:
    """Each argument and each pair of arguments, with every value; by itself and with momentum."""
    names = [name for name in OPTIMIZER_ARGUMENTS[optimizer] if name != "capturable"]
    values = {
        name: (True, False) if name in SWITCHES else VALUES.get(name, NUMBERS) for name in names
    }
    momenta: list[dict[str, Any]] = [{}, {"momentum": 0.9}] if "momentum" in names else [{}]
    for chosen in chain(combinations(names, 1), combinations(names, 2)):
        for given in product(*(values[name] for name in chosen)):
            for momentum in momenta:
                yield momentum | dict(zip(chosen, given, strict=True))


@pytest.mark.parametrize("name", OPTIMIZER_ARGUMENTS)
def test_torch_steps_with_every_optimizer_that_a_spec_may_ask_for(name: str) -> None:
    num_taken = 0
    for arguments in choices(name):
        try:
            optimizer = Optimizer.model_validate({"name": name, "lr": 0.1, **arguments})
        except ValidationError:
            continue
        if not list(optimizer_problems(optimizer)):
            parameter = torch.nn.Parameter(torch.ones(2, 2))
            parameter.grad = torch.ones(2, 2)
            getattr(torch.optim, name)([parameter], lr=0.1, **optimizer.arguments).step()
            num_taken += 1
    assert num_taken > 100


def test_an_optimizers_arguments_are_part_of_its_identity() -> None:
    optimizer = Optimizer.model_validate({"lr": 1e-3, "betas": (0.9, 0.95)})
    assert optimizer.identity() == {"name": "AdamW", "lr": 1e-3, "betas": [0.9, 0.95]}


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "wsd"},
        {"kind": "cosine", "decay": "10%"},
        {"kind": "step"},
        {"warmup": "105%"},
        {"min_lr": -1.0},
        {"to": 0.0},
    ],
    ids=str,
)
def test_a_schedule_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Schedule.model_validate(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "linear"},
        {"kind": "constant", "to": 1e-4},
        {"kind": "constant", "peak": 1e-3},
        {"kind": "constant", "warmup": 5},
        {"kind": "wsd", "to": 0.0},
        {"kind": "linear", "to": -1.0},
        {},
    ],
    ids=str,
)
def test_an_extensions_schedule_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ResumeSchedule.model_validate(fields)


SCHEDULES: list[Schedule | ResumeSchedule] = [
    Schedule(),
    Schedule(kind="constant"),
    Schedule.model_validate({"kind": "wsd", "decay": {"tokens": 320}, "warmup": 3}),
    Schedule(min_lr=1e-4),
    ResumeSchedule(kind="constant"),
    ResumeSchedule(kind="linear", to=0.0),
    ResumeSchedule.model_validate({"kind": "constant", "peak": 1e-3, "warmup": "5%"}),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("is_sparse", [True, False], ids=["without None", "whole"])
def test_a_recipe_survives_the_way_to_a_worker(
    schedule: Schedule | ResumeSchedule, is_sparse: bool
) -> None:
    recipe = make_recipe(schedule=schedule, max_norm=None, evaluate=None)
    sent = recipe.model_dump(mode="json", by_alias=True, exclude_none=is_sparse)
    assert Recipe.model_validate(sent, strict=False) == recipe


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        ({"max_steps": 17}, 17),
        ({"max_tokens": 320}, 10),
        ({"max_tokens": 351}, 10),
        ({"epochs": 1.0}, 25),
        ({"epochs": 0.29}, 7),
        ({"epochs": 3.0}, 75),
    ],
    ids=str,
)
def test_a_budget_is_whole_steps(budget: dict[str, Any], steps: int) -> None:
    assert make_recipe(**budget).num_steps(num_blocks=100) == steps


def test_a_share_of_an_epoch_is_not_one_step_short() -> None:
    """0.29 * 100 as floats is 28.999999999999996."""
    assert make_recipe(epochs=0.29, global_batch_size=1).num_steps(100) == 29


def test_epochs_wait_for_the_data() -> None:
    assert make_recipe(epochs=2.0).num_steps(None) is None


def test_periods_are_steps_of_the_run() -> None:
    recipe = make_recipe(
        schedule=Schedule.model_validate({"warmup": "10%"}),
        evaluate={"every": {"tokens": 320}},
        runtime={"checkpoint": {"every": "25%"}},
    )
    found = intervals_of(recipe, 200)
    assert (found.warmup_steps, found.evaluate_every, found.checkpoint_every) == (20, 10, 50)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [(name, {}) for name in OPTIMIZER_ARGUMENTS]
    + [
        ("AdamW", {"amsgrad": True}),
        ("SGD", {"momentum": 0.9}),
        ("RMSprop", {"momentum": 0.9, "centered": True}),
    ],
    ids=str,
)
def test_an_optimizer_keeps_as_many_moments_as_it_is_said_to(
    name: str, arguments: dict[str, Any]
) -> None:
    parameter = torch.nn.Parameter(torch.ones(7))
    optimizer = getattr(torch.optim, name)([parameter], lr=0.1, **arguments)
    parameter.grad = torch.ones(7)
    optimizer.step()
    kept = [value for value in optimizer.state[parameter].values() if torch.is_tensor(value)]
    expected = Optimizer.model_validate({"name": name, "lr": 0.1, **arguments}).num_moments
    assert sum(value.numel() == 7 for value in kept) == expected


def real_count(fields: dict[str, Any], *, tied: bool = False) -> int:
    with torch.device("meta"):
        model = GPT(Config(**fields))
    if tied:
        model.lm_head.weight = model.transformer.wte.weight
    return sum(parameter.numel() for parameter in model.parameters())


def distinct_shapes() -> list[str]:
    """Of LitGPT's configs of one shape (base, chat, instruct, versions), the first."""
    seen: dict[str, str] = {}
    for name in model_names():
        fields = architecture(name).fields
        # One block tells a family's count as well as eighty do.
        seen.setdefault(repr({k: v for k, v in fields.items() if k not in UNCOUNTED}), name)
    return list(seen.values())


UNCOUNTED = ("name", "hf_config", "rope_base", "rope_adjustments", "block_size", "n_layer")


def test_parameters_are_counted_as_litgpt_builds_them() -> None:
    counted = 0
    for name in distinct_shapes():
        fields = architecture(name).fields
        for n_layer in (1, 3):
            small = {
                **fields,
                "n_layer": n_layer,
                "rope_indices": None,
                "sliding_window_indices": None,
            }
            found = Architecture(small).num_parameters()
            if found is not None:
                assert found == real_count(small), name
                counted += 1
    assert counted > 100


@pytest.mark.parametrize(
    "name", ["pythia-14m", "Llama-3.2-1B", "phi-2", "Gemma-2-2b", "Qwen3-0.6B"]
)
def test_a_whole_models_parameters_are_counted(name: str) -> None:
    shape = architecture(name)
    assert shape.num_parameters() == real_count(shape.fields, tied=shape.tied)


def test_mixtures_of_experts_are_not_counted() -> None:
    for name in model_names():
        shape = architecture(name)
        if shape.fields["n_expert"]:
            assert shape.num_parameters() is None, name
            assert shape.training_flops_per_token(128) is None
    assert architecture("Mixtral-8x7B-v0.1").num_parameters() is None


@pytest.mark.parametrize("sequence_length", [64, pytest.param(512, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["pythia-14m", "Llama-3.2-1B", "Gemma-2-2b", "Qwen3-0.6B"])
def test_operations_are_those_that_lightning_measures(name: str, sequence_length: int) -> None:
    fields = architecture(name).fields
    with torch.device("meta"):
        model = GPT(Config(**fields))
        tokens = torch.zeros(2, sequence_length, dtype=torch.long)
    measured = measure_flops(model, lambda: model(tokens), lambda logits: logits.sum())
    found = architecture(name).training_flops_per_token(sequence_length)
    assert found == pytest.approx(measured / tokens.numel(), rel=0.01)


@pytest.mark.parametrize(
    "overrides",
    [
        {"vocab_size": 100},
        {"n_embd": 64},
        {"n_head": 2},
        {"n_layer": 1, "n_embd": 32, "n_head": 4, "vocab_size": 1000},
        {"bias": False},
        {"padded_vocab_size": 60_000},
    ],
    ids=str,
)
def test_replaced_fields_make_a_model_that_can_be_built(overrides: dict[str, Any]) -> None:
    shape = architecture("pythia-14m", overrides)
    assert shape.num_parameters() == real_count(shape.fields)
    assert overrides.items() <= shape.fields.items()


def test_derived_fields_follow_the_replaced_ones() -> None:
    fields = architecture("pythia-14m", {"n_embd": 64, "vocab_size": 100}).fields
    assert (fields["head_size"], fields["intermediate_size"]) == (16, 256)
    assert fields["padded_vocab_size"] == 128  # the next multiple of pythia-14m's 128


@pytest.mark.parametrize(
    ("name", "overrides", "told"),
    [
        ("pythia-14n", {}, "no model 'pythia-14n'"),
        ("pythia-14m", {"layers": 2}, "no field 'layers'"),
        ("pythia-14m", {"n_embd": 33}, "n_embd must be a multiple of n_head"),
    ],
)
def test_a_model_that_cannot_be_is_refused(name: str, overrides: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        architecture(name, overrides)


def test_an_architecture_is_read_back_from_a_checkpoint(tmp_path: Any) -> None:
    save_config(Config(**FIELDS), tmp_path)
    assert read_architecture(tmp_path / "model_config.yaml").fields == FIELDS


def test_no_model_of_litgpt_breaks_a_rule_about_its_fields() -> None:
    for name in model_names():
        fields = architecture(name).fields
        given = {key: value for key, value in fields.items() if key not in ("name", "hf_config")}
        ModelFields.model_validate({"name": name, **tuples_of(given)})
