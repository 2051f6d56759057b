from pathlib import Path
from typing import Any

import pytest
import torch
from litgpt import Config
from litgpt.model import GPT

from continuum.errors import PreflightError
from continuum.runs.artifacts import TokenizedDataset
from continuum.runs.files import hash_tree
from continuum.training.data import Blocks, Share, validation_data
from continuum.training.fabric import make_fabric
from continuum.training.loop import accumulate_gradients, clip_gradients, take_step
from continuum.training.model import kind_of, make_state, parameter_groups
from continuum.training.resolved import resolve
from continuum.training.state import unwrap, unwrap_optimizer
from tests.training.loops import make_task
from tests.training.samples import (
    FIELDS,
    LENGTH,
    make_dataset,
    make_recipe,
    token_stream,
    write_split,
)


@pytest.fixture
def dataset(tmp_path: Path) -> TokenizedDataset:
    """A dataset with four validation blocks on disk."""
    tokens = token_stream(4 * (LENGTH + 1))
    write_split(tmp_path / "validation", tokens)
    made = {"path": tmp_path, "files": hash_tree(tmp_path)}
    return make_dataset(validation=len(tokens)).model_copy(update=made)


@pytest.mark.parametrize(("world_size", "micro"), [(2, 2), (4, 1), (1, 4)])
def test_every_process_gets_its_rows_of_the_validation_split(
    dataset: TokenizedDataset, world_size: int, micro: int
) -> None:
    recipe = make_recipe(evaluate={})
    for rank in range(world_size):
        share = Share(rank, world_size, micro)
        split = validation_data(recipe, {"tokens": dataset}, share, rows=1)
        counted = [batch for batch in split["tokens"].batches() if batch.number is not None]
        assert sum(len(batch.inputs) for batch in counted) == 4 // world_size


def test_a_dataset_without_a_validation_block_is_refused_at_run_time(
    dataset: TokenizedDataset,
) -> None:
    bare = dataset.model_copy(update={"validation": None})
    with pytest.raises(PreflightError, match="'tokens' has no validation split"):
        validation_data(make_recipe(evaluate={}), {"tokens": bare}, Share(0, 4, 2), rows=1)


@pytest.mark.parametrize(
    ("optimizer", "accelerator", "is_fused"),
    [
        pytest.param({}, "cpu", None, id="on a CPU"),
        pytest.param({}, "cuda", True, id="on a GPU", marks=pytest.mark.gpu),
        pytest.param({"foreach": True}, "cuda", None, id="as told", marks=pytest.mark.gpu),
    ],
)
def test_the_optimizer_steps_in_one_kernel_on_a_gpu(
    optimizer: dict[str, Any], accelerator: str, is_fused: bool | None
) -> None:
    recipe = make_recipe(
        optimizer={"lr": 1e-2, **optimizer},
        runtime={"accelerator": accelerator, "micro_batch_size": 2},
    )
    resolved = resolve(recipe, {})
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, FIELDS, resolved, seed=1)
    (group,) = unwrap_optimizer(state.optimizer).param_groups
    assert group["fused"] is is_fused


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "32-true"])
def test_positions_are_told_apart_in_every_precision(precision: str) -> None:
    """bf16 has eight bits: of 300 positions, some would have the angles of their neighbours."""
    fields = {**FIELDS, "block_size": 300}
    recipe = make_recipe(precision=precision, sequence_length=300)
    resolved = resolve(recipe, {})
    core: Any = unwrap(
        make_state(make_fabric(resolved, recipe.runtime), recipe, fields, resolved, seed=1).model
    )
    assert core.lm_head.weight.dtype == (
        torch.bfloat16 if precision == "bf16-true" else torch.float32
    )
    assert core.cos.dtype == core.sin.dtype == torch.float32
    expected = torch.arange(300).float()
    torch.testing.assert_close(core.sin[:, 0], expected.sin())
    torch.testing.assert_close(core.cos[:, 0], expected.cos())


@pytest.mark.gpu
def test_a_step_waits_for_nothing_on_a_gpu(blocks: Blocks) -> None:
    recipe = make_recipe(runtime={"accelerator": "cuda", "micro_batch_size": 2, "compile": "off"})
    resolved, task = resolve(recipe, {}), make_task(blocks, 2, log_every=100)
    fabric = make_fabric(resolved, recipe.runtime)
    state = make_state(fabric, recipe, FIELDS, resolved, seed=1)
    for step in range(3):
        # The first step sets libraries up; the others may only be asked for.
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            accumulate_gradients(fabric, state.model, task, step)
            take_step(state, clip_gradients(fabric, state, task))
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def model() -> GPT:
    with torch.device("meta"):
        return GPT(Config.from_name("pythia-14m"))


def test_without_a_wish_all_parameters_decay(model: GPT) -> None:
    (group,) = parameter_groups(model, ())
    assert len(group["params"]) == len(list(model.parameters()))
    assert "weight_decay" not in group


def test_norms_biases_and_embeddings_can_be_spared(model: GPT) -> None:
    decayed, spared = parameter_groups(model, ("norms", "biases", "embeddings"))
    assert spared["weight_decay"] == 0.0
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    names = {id(p): name for name, p in model.named_parameters()}
    assert "transformer.wte.weight" in {names[id(p)] for p in spared["params"]}
    assert "lm_head.weight" in {names[id(p)] for p in decayed["params"]}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("transformer.wte.weight", "embeddings"),
        ("transformer.h.0.norm_1.bias", "norms"),
        ("transformer.h.0.attn.norm_q.weight", "norms"),
        ("transformer.ln_f.weight", "norms"),
        ("transformer.h.0.attn.qkv.bias", "biases"),
        ("transformer.h.0.mlp.fc.weight", "matrices"),
        ("lm_head.weight", "matrices"),
    ],
)
def test_every_parameter_of_litgpt_has_a_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind
