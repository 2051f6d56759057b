"""Models whose embedding is their output layer too: one tensor, from the start to the export."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from continuum.errors import PreflightError
from continuum.experiment.architecture import Architecture, architecture, model_names
from continuum.loading.diagnostics import SpecError
from continuum.preflight.disk import held
from continuum.preflight.memory import estimate_memory
from continuum.preflight.placement import Placement
from continuum.runs.artifacts import ModelWeights
from continuum.runs.tied_embeddings import TIED_NAMES, tied_in
from continuum.stages.pretrain import Pretrain
from continuum.training.fabric import make_fabric
from continuum.training.litgpt import GPT, Config
from continuum.training.model import make_state
from continuum.training.resolved import resolve
from continuum.training.state import TrainingState, unwrap
from continuum.training.weights import EMBEDDING, HEAD, check_tied, has_tied_embeddings
from tests.experiments import TOY_MODEL
from tests.training.conftest import DATA_STAGES
from tests.training.samples import FIELDS, Trials, assert_equal_tensors, make_recipe

CONSTANT = {"kind": "constant", "warmup": 0}
TIED_MODEL = {**TOY_MODEL, "tied": True}
TRAIN = (*DATA_STAGES, "pretrain")
FLOW = (*TRAIN, "longer", "weights", "retrain")


@pytest.mark.parametrize("name", sorted(TIED_NAMES))
def test_a_listed_model_is_litgpts_and_its_two_matrices_have_one_shape(name: str) -> None:
    assert name in model_names()
    shape = architecture(name)
    assert shape.tied
    with torch.device("meta"):
        model = GPT(Config.from_name(name, n_layer=1))
    assert model.lm_head.weight.shape == model.transformer.wte.weight.shape
    untied = architecture(name, tied=False).num_parameters()
    tied = shape.num_parameters()
    assert tied is not None
    assert untied == tied + model.lm_head.weight.numel()


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"model_type": "llama", "tie_word_embeddings": True}, True),
        ({"model_type": "llama"}, False),
        ({"model_type": "qwen2"}, False),
        ({"model_type": "gpt_neox"}, False),
        ({"model_type": "gemma2"}, True),
        ({"model_type": "gemma", "tie_word_embeddings": False}, False),
        ({"model_type": "gemma3", "text_config": {"tie_word_embeddings": False}}, False),
        ({"vocab_size": 5}, None),
        ([], None),
    ],
    ids=str,
)
def test_config_json_says_whether_a_model_is_tied(config: Any, tied: bool, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert tied_in(path) is None
    path.write_text(json.dumps(config), encoding="utf-8")
    assert tied_in(path) is tied


def begin(*, tied: bool, seed: int = 1, **recipe: Any) -> TrainingState:
    recipe_ = make_recipe(**recipe)
    resolved = resolve(recipe_, {})
    fabric = make_fabric(resolved, recipe_.runtime)
    return make_state(fabric, recipe_, FIELDS, resolved, seed=seed, tied=tied)


def test_a_tied_start_is_the_untied_one_with_its_embedding_twice() -> None:
    untied, tied = begin(tied=False).snapshot()["model"], begin(tied=True).snapshot()["model"]
    assert torch.equal(tied[HEAD], tied[EMBEDDING])
    assert_equal_tensors({**untied, HEAD: untied[EMBEDDING]}, tied)
    assert not torch.equal(untied[HEAD], untied[EMBEDDING])


def test_a_tied_model_has_one_tensor_its_optimizer_too() -> None:
    optimizer = {"lr": 1e-2, "weight_decay": 0.1, "no_weight_decay": ["embeddings"]}
    state = begin(tied=True, optimizer=optimizer)
    names = [name for name, _ in unwrap(state.model).named_parameters()]
    number = sum(parameter.numel() for parameter in state.model.parameters())
    assert HEAD not in names
    assert number == Architecture(FIELDS, tied=True).num_parameters()
    decayed, spared = state.snapshot()["optimizer"]["param_groups"]
    assert spared["params"] == [EMBEDDING]
    assert len(decayed["params"]) == len(names) - 1


def test_estimates_know_of_one_tensor_less() -> None:
    size = 4 * FIELDS["n_embd"] * FIELDS["padded_vocab_size"]
    placement = Placement(on_cpu=False, strategy="single", precision="32-true")
    both = [
        estimate_memory(make_recipe(), Architecture(FIELDS, tied=tied), placement)
        for tied in (False, True)
    ]
    untied, tied = (found.state_bytes for found in both if found is not None)
    assert untied - tied == 4 * size


@pytest.fixture
def ended(trials: Trials) -> Trials:
    """A tied model, pretrained, extended, converted and retrained."""
    trials.run(only=FLOW, pretrain__model=TIED_MODEL)
    return trials


def test_a_model_stays_tied_through_all_stages(ended: Trials) -> None:
    for stage in ("pretrain", "longer", "weights", "retrain"):
        state = ended.state(stage)
        weights = state.get("model", state)
        assert torch.equal(weights[HEAD], weights[EMBEDDING])
        assert weights[HEAD].data_ptr() == weights[EMBEDDING].data_ptr()  # stored once
        assert ended.stage_run(stage).artifact().is_tied  # type: ignore[attr-defined]
    moments = ended.state("retrain")["optimizer"]["state"]
    assert EMBEDDING in moments
    assert HEAD not in moments
    assert not torch.equal(ended.weights("retrain")[HEAD], ended.weights("longer")[HEAD])
    assert all(saved.tied for saved in ended.stage_run("retrain").checkpoints())


def test_the_plan_says_that_embeddings_are_tied_and_counts_them_once(ended: Trials) -> None:
    planned = ended.plan().stages
    assert all(planned[name].forecast.facts["tied_embeddings"] == "yes" for name in FLOW[-4:-2])
    assert planned["retrain"].forecast.facts["tied_embeddings"] == "yes"
    item = planned["pretrain"].forecast.disk
    assert item is not None
    file = next(ended.stage_run("pretrain").checkpoints_dir.glob("*/lit_model.pth"))
    assert held(item)[0] >= 1
    assert abs(file.stat().st_size - item.item_bytes) < 100_000


def test_an_extension_of_a_tied_model_is_the_longer_run_to_the_last_bit(
    trials: Trials, ended_longer: Trials
) -> None:
    trials.run(
        only=TRAIN,
        pretrain__model=TIED_MODEL,
        pretrain__max_steps=30,
        pretrain__schedule=CONSTANT,
    )
    assert_equal_tensors(trials.weights("pretrain"), ended_longer.weights("longer"))


@pytest.fixture
def ended_longer(trials: Trials) -> Trials:
    other = Trials(trials.folder.with_name("extended"))
    shutil.copytree(trials.folder, other.folder)
    other.run(
        only=(*TRAIN, "longer"),
        pretrain__model=TIED_MODEL,
        pretrain__schedule=CONSTANT,
        longer__schedule={"kind": "constant"},
    )
    return other


def pretrain(model: Any) -> Pretrain:
    fields = {"data": "tokens", "max_steps": 1, "sequence_length": 8, "global_batch_size": 1}
    return Pretrain.model_validate({**fields, "model": model, "optimizer": {"lr": 1e-3}})


def test_what_is_stated_is_identity_only_where_it_differs_from_the_hub() -> None:
    small: dict[str, Any] = {"name": "SmolLM2-135M", "n_layer": 2}
    usual, stated = pretrain(small), pretrain({**small, "tied": True})
    untied = pretrain({**small, "tied": False})
    assert usual.architecture() == stated.architecture()
    assert usual.architecture().tied
    assert not untied.architecture().tied
    identities = [stage.identity() for stage in (usual, stated, untied)]
    assert identities[0] == identities[1] != identities[2]


def test_a_word_for_tied_is_refused_at_its_line(trials: Trials) -> None:
    trials.write(only=TRAIN, pretrain__model={**TOY_MODEL, "tied": "yes"})
    with pytest.raises(SpecError, match="tied must be true or false"):
        trials.plan()


def weights_record(folder: Path, **fields: Any) -> ModelWeights:
    config = architecture("SmolLM2-135M").fields
    return ModelWeights(path=folder, model_config_fields=config, **fields)


def test_a_record_that_says_nothing_is_as_on_the_hub_unless_it_was_trained(tmp_path: Path) -> None:
    assert weights_record(tmp_path).is_tied
    assert not weights_record(tmp_path, step=20).is_tied
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": false}', encoding="utf-8")
    assert not weights_record(tmp_path).is_tied


def test_weights_that_were_trained_apart_are_not_tied(tmp_path: Path) -> None:
    one = torch.ones(3, 2)
    torch.save({EMBEDDING: one, HEAD: one.clone()}, tmp_path / "lit_model.pth")
    check_tied(tmp_path)
    torch.save({EMBEDDING: one, HEAD: one * 2}, tmp_path / "lit_model.pth")
    with pytest.raises(PreflightError, match="was trained untied; set `tied: false`"):
        check_tied(tmp_path)


def test_a_compiled_tied_model_is_still_tied() -> None:
    state = begin(tied=True, runtime={"compile": "on", "micro_batch_size": 2})
    assert has_tied_embeddings(unwrap(state.model))
