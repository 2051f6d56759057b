"""Which samples a stage reads after its ancestors: seen by losses, as the weights never change."""

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from continuum.lineage.reading import build_graph
from continuum.runs.artifacts import ModelWeights, TokenizedDataset, TrainingCheckpoint
from continuum.runs.folder import ExperimentFolder
from continuum.training.order import mixture_of
from tests.experiments import TOY_MODEL, small_stages
from tests.training.conftest import DATA_STAGES
from tests.training.samples import Trials, make_recipe

FROZEN: dict[str, Any] = {
    "data": "tokens",
    "sequence_length": 32,
    "global_batch_size": 4,
    "optimizer": {"name": "SGD", "lr": 1e-30},
    "schedule": {"kind": "constant", "warmup": 0},
    "evaluate": None,
    "runtime": {"micro_batch_size": 4, "checkpoint": {"every": 4}},
}
"""A rate so small that no weight changes: a step's loss tells which samples it read."""
HALF = {"tokens": 0.5, "code_tokens": 0.5}


def pretrain(max_steps: int, **fields: Any) -> dict[str, Any]:
    return {"kind": "pretrain", "model": TOY_MODEL, "max_steps": max_steps, **FROZEN, **fields}


def retrain(parent: str, max_steps: int, **fields: Any) -> dict[str, Any]:
    return {"kind": "retrain", "from": parent, "max_steps": max_steps, **FROZEN, **fields}


FAMILY: dict[str, Any] = {
    "whole": pretrain(20),
    "begin": pretrain(6),
    "longer": {
        "kind": "resume", "from": "begin", "max_steps": 9, "schedule": {"kind": "constant"},
    },
    "weights": {"kind": "convert", "from": "longer"},
    "child": retrain("weights", 5),
    "grandchild": retrain("child", 4, seed=7),
    "from_a_step": retrain("begin@step-4", 4),
    "again": retrain("begin", 4, data_position="restart"),
    "on_code": retrain("begin", 2, data="code_tokens"),
    "back": retrain("on_code", 4, data=HALF),
    "further": retrain("back", 3),
    "seeded": retrain("begin", 4, seeds={"data": 8}),
    "aaa_tokens": small_stages()["tokens"],
    "mixed": pretrain(4, data=HALF),
    "renamed": pretrain(4, data={"code_tokens": 2, "aaa_tokens": 2}),
    "other_init": pretrain(4, seeds={"init": 8}),
    "other_order": pretrain(4, seeds={"data": 8}),
    "shorter": retrain("begin", 4, sequence_length=16),
}  # fmt: skip
ALL = (*DATA_STAGES, *FAMILY)


def losses(trials: Trials, *stages: str) -> list[float]:
    return [row["loss"] for stage in stages for row in trials.rows(stage) if "lr" in row]


def position(trials: Trials, stage: str, data: str = "tokens") -> tuple[int, int, float]:
    """Epoch, blocks and passes that a stage recorded."""
    made, dataset = trials.stage_run(stage).artifact(), trials.stage_run(data).artifact()
    assert isinstance(made, (TrainingCheckpoint, ModelWeights))
    assert made.data_read is not None
    found = made.data_read[dataset.digest]
    return found.epoch, found.blocks_read, found.passes


@pytest.fixture(scope="module")
def family(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """A pretraining and its descendants, all done."""
    trials = Trials(data).copied_to(tmp_path_factory.mktemp("family") / "toy")
    trials.write(only=DATA_STAGES, **FAMILY)
    trials.carry_out().raise_for_failure()
    return trials


def test_a_family_reads_one_sequence_however_it_is_cut(family: Trials) -> None:
    whole = losses(family, "whole")
    assert len(set(whole)) == 20, "each step's loss is its own"
    assert losses(family, "begin", "longer", "child") == whole[:14]
    assert losses(family, "grandchild") == whole[14:18]


def test_samples_of_a_retraining_are_none_of_its_parents(family: Trials) -> None:
    lines = [
        losses(family, "begin", "longer"),
        losses(family, "child"),
        losses(family, "grandchild"),
    ]
    for before, after in pairwise(lines):
        assert not set(before) & set(after)


def test_a_selected_step_is_read_on_from_its_own_position(family: Trials) -> None:
    assert losses(family, "from_a_step") == losses(family, "whole")[4:8]


def test_restart_reads_the_parents_samples_again(family: Trials) -> None:
    assert losses(family, "again") == losses(family, "whole")[:4]


def test_another_seed_reads_from_the_beginning_of_another_order(family: Trials) -> None:
    assert not set(losses(family, "seeded")) & set(losses(family, "whole"))
    assert position(family, "seeded")[:2] == (0, 16)


def test_no_name_of_a_dataset_decides_a_sample(family: Trials) -> None:
    assert family.stage_run("tokens").artifact().digest == (
        family.stage_run("aaa_tokens").artifact().digest
    )
    assert losses(family, "mixed") == losses(family, "renamed")


def test_a_dataset_under_two_names_is_one(family: Trials) -> None:
    made = family.stage_run("tokens").artifact()
    assert isinstance(made, TokenizedDataset)
    recipe = make_recipe(data={"aaa": 0.25, "tokens": 0.75})
    (part,) = mixture_of(recipe, {"aaa": made, "tokens": made})
    assert (part.dataset, part.weight) == (made, 1.0)


def test_seeds_do_one_thing_each(family: Trials) -> None:
    whole, init, order = (family.state(stage) for stage in ("whole", "other_init", "other_order"))
    drawn = "lm_head.weight"
    assert torch.equal(order["model"][drawn], whole["model"][drawn])
    assert not set(losses(family, "other_order")) & set(losses(family, "whole"))
    assert not torch.equal(init["model"][drawn], whole["model"][drawn])
    assert init["data_start"] == whole["data_start"]
    record = family.stage_run("other_init").record()
    assert (record.seeds, record.seed) == ({"init": 8, "data": 7}, None)
    assert family.stage_run("tokens").record().seeds == {"split": 0}


def test_the_plan_says_where_it_reads_on_by_what_its_parents_recorded(
    family: Trials, tmp_path: Path
) -> None:
    trials = family.copied_to(tmp_path / "toy")
    added = {"more": retrain("back", 3, data=HALF)}
    trials.write(only=DATA_STAGES, **FAMILY, **added)
    code, tokens = trials.num_blocks("code_tokens"), trials.num_blocks("tokens")
    assert trials.plan().stages["more"].forecast.notes == (
        f"data: code_tokens is continued after 16 of the {code:,} blocks of epoch 1; "
        f"tokens is continued after 32 of the {tokens:,} blocks of epoch 1",
    )


def test_the_record_says_where_a_retraining_began(family: Trials) -> None:
    def begun(stage: str) -> dict[str, Any]:
        (line,) = (
            it for it in family.stage_run(stage).attempts() if it["event"] == "data_position"
        )
        return {key: line["datasets"]["tokens"].get(key) for key in ("blocks_read", "restarts")}

    assert begun("child") == {"blocks_read": 36, "restarts": None}
    assert begun("again") == {"blocks_read": 0, "restarts": "data_position: restart"}
    assert begun("seeded") == {"blocks_read": 0, "restarts": "its data seed was 7 and is 8"}


def test_the_lineage_counts_passes_over_the_whole_ancestry(family: Trials) -> None:
    graph = build_graph(ExperimentFolder(family.folder), "family", family.plan())
    (node,) = graph.find("back")
    tokens, code = family.num_blocks("tokens"), family.num_blocks("code_tokens")
    assert node.facts["epochs"] == {
        "tokens": round(32 / tokens, 3), "code_tokens": round(16 / code, 3),
    }  # fmt: skip


def test_data_that_the_parent_did_not_read_is_read_on_too(family: Trials) -> None:
    assert position(family, "on_code")[1] == 24
    assert position(family, "back")[1] == 24 + 8
    assert position(family, "back", "code_tokens")[1] == 8 + 8
    assert losses(family, "further") == losses(family, "whole")[8:11]


def test_passes_count_all_that_ancestors_read_in_whatever_order(family: Trials) -> None:
    blocks = family.num_blocks("tokens")
    for stage, read in {"weights": 36, "grandchild": 72, "again": 40, "seeded": 40}.items():
        assert position(family, stage)[2] == pytest.approx(read / blocks), stage
    shorter = 24 / blocks + 16 / family.num_blocks("tokens", 16)
    assert position(family, "shorter")[:2] == (0, 16)
    assert position(family, "shorter")[2] == pytest.approx(shorter)


def test_a_stopped_retraining_goes_on_to_the_same_bytes(family: Trials, tmp_path: Path) -> None:
    trials = family.copied_to(tmp_path / "toy")
    shutil.rmtree(trials.stage_run("child").path)
    trials.write(only=DATA_STAGES, **FAMILY)
    assert trials.carry_out(stop_at=2).outcomes["child"].status == "stopped"
    trials.carry_out().raise_for_failure()
    assert trials.state_bytes("child") == family.state_bytes("child")
    assert position(trials, "child") == position(family, "child")
    assert losses(trials, "child") == losses(family, "child")
