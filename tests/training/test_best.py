"""`from: pretrain@best`: the checkpoint with the lowest validation loss, whatever else is saved."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from continuum.errors import PreflightError, StageFailedError
from continuum.planning.plan import Action
from continuum.runs.artifacts import Checkpoint, best_step
from continuum.training.data import Blocks, ValidationData
from continuum.training.litgpt import GPT, Config
from continuum.training.loop import evaluate
from continuum.training.weights import load_weights
from tests.training.conftest import DATA_STAGES
from tests.training.samples import TOY_FIELDS, Trials, cpu_fabric, steps_of

EVERY, SEQUENCES = 2, 8
SELECTED = {
    "pretrain__optimizer": {"lr": 1.0},
    "pretrain__schedule": {"kind": "constant", "warmup": "100%"},
    "pretrain__evaluate": {"every": EVERY, "sequences": SEQUENCES},
    "pretrain__data": {"tokens": 0.6, "code_tokens": 0.4},
    "pretrain__runtime": {"micro_batch_size": 4, "checkpoint": {"every": 3}},
    "weights__from": "pretrain@best",
}
"""A run whose best step is neither the last nor one that an interval says to save."""
CONVERT = (*DATA_STAGES, "pretrain", "weights")


@pytest.fixture(scope="module")
def selected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """The best checkpoint of a mixture, converted; tests only read it, or copy it."""
    trials = Trials(data).copied_to(tmp_path_factory.mktemp("selected") / "toy")
    trials.run(only=CONVERT, **SELECTED)
    return trials


@pytest.fixture
def copied(selected: Trials, tmp_path: Path) -> Trials:
    return selected.copied_to(tmp_path / "copied")


def losses(trials: Trials, metric: str = "val_loss") -> dict[int, float]:
    return {row["step"]: row[metric] for row in trials.rows("pretrain") if metric in row}


def lowest(found: dict[int, float]) -> int:
    return min(found, key=lambda step: (found[step], step))


def model(trials: Trials, stage: str) -> Checkpoint:
    artifact = trials.stage_run(stage).artifact()
    assert isinstance(artifact, Checkpoint)
    return artifact


def test_it_is_the_evaluated_step_with_the_lowest_loss(selected: Trials) -> None:
    best = lowest(losses(selected))
    assert 0 < best < 20
    assert model(selected, "weights").step == best
    assert steps_of(selected.stage_run("pretrain").checkpoints()) == sorted({best, 18, 20})


def test_the_weights_have_the_loss_they_were_chosen_for(selected: Trials) -> None:
    with torch.device("cpu"):
        gpt = GPT(Config(**TOY_FIELDS))
    gpt.load_state_dict(load_weights(selected.stage_run("weights").output_dir))
    folder = selected.stage_run("tokens").output_dir / "validation"
    blocks = Blocks(folder, 32, TOY_FIELDS["vocab_size"])
    split = ValidationData(blocks, SEQUENCES, rows=4)
    found = evaluate(cpu_fabric(), gpt, split)
    assert found == pytest.approx(min(losses(selected).values()), rel=1e-6)


def test_the_record_and_the_lineage_tell_which_step_it_was(selected: Trials) -> None:
    best = lowest(losses(selected))
    record = json.loads((selected.stage_run("weights").path / "stage.json").read_text())
    (used,) = record["inputs"]
    assert (used["ref"], used["step"]) == ("pretrain@best", best)
    graph = json.loads((selected.folder / "lineage.json").read_text())
    ((parent,),) = [
        [e["target"] for e in graph["edges"] if e["source"] == node["id"]]
        for node in graph["nodes"]
        if node["type"] == "model weights"
    ]
    assert parent.endswith(f"@step-{best}")
    (chosen,) = [n for n in graph["nodes"] if "best_by" in n["facts"]]
    assert (chosen["id"], chosen["facts"]["best_by"]) == (parent, ["val_loss"])


def test_a_mixture_is_judged_by_the_dataset_that_is_named(trials: Trials) -> None:
    named = {"kind": "convert", "from": "pretrain@best:val_loss/code_tokens"}
    trials.run(only=CONVERT, **SELECTED, named=named, pretrain__seed=3)
    by_code = lowest(losses(trials, "val_loss/code_tokens"))
    assert by_code != lowest(losses(trials))
    assert model(trials, "named").step == by_code
    assert model(trials, "weights").step == lowest(losses(trials))


def test_a_resume_and_a_retraining_begin_from_it(trials: Trials) -> None:
    longer = {"from": "pretrain@best", "max_steps": 24, "schedule": {"kind": "constant"}}
    retrain = {"from": "pretrain@best", "max_steps": 2, "evaluate": {"at_start": False}}
    trials.run(
        only=(*CONVERT, "longer", "retrain"),
        **SELECTED,
        **{f"longer__{key}": value for key, value in longer.items()},
        **{f"retrain__{key}": value for key, value in retrain.items()},
    )
    best = lowest(losses(trials))
    run = trials.stage_run("pretrain")
    (digest,) = [c.digest for c in run.checkpoints() if c.step == best]
    for stage, first in (("longer", best + 1), ("retrain", 1)):
        assert trials.rows(stage)[0]["step"] == first
        parents = {c.parent for c in trials.stage_run(stage).checkpoints()}
        assert parents == {digest}
    # What was best in the parent is no record to beat for the stage that goes on from it.
    assert best_step(trials.checkpoint("longer").metrics, "val_loss") is None


@pytest.mark.parametrize("stop_at", [3, 15, 17])
def test_an_interruption_changes_neither_the_choice_nor_a_byte(
    selected: Trials, trials: Trials, stop_at: int
) -> None:
    trials.write(only=CONVERT, **SELECTED)
    trials.carry_out(stop_at=stop_at)
    trials.carry_out().raise_for_failure()
    fields = [model(it, "weights").model_dump(exclude={"path"}) for it in (trials, selected)]
    assert fields[0] == fields[1]
    assert trials.state_bytes("pretrain") == selected.state_bytes("pretrain")


def test_a_damaged_newest_checkpoint_takes_no_best_one_with_it(
    selected: Trials, trials: Trials
) -> None:
    """The best step that the older one knows of must still be there."""
    trials.write(only=CONVERT, **SELECTED)
    trials.carry_out(stop_at=14)
    run = trials.stage_run("pretrain")
    newest, older = run.checkpoints()[-1], run.checkpoints()[-2]
    (newest.path / "lit_model.pth").write_bytes(b"torn")
    noted = best_step(older.metrics, "val_loss")
    assert noted in steps_of(run.checkpoints())
    trials.carry_out().raise_for_failure()
    assert model(trials, "weights").step == lowest(losses(selected))


def test_evaluate_is_identity_of_who_selects_the_best_and_of_nobody_else(selected: Trials) -> None:
    def fingerprints(**changes: Any) -> tuple[str, str]:
        selected.write(only=CONVERT, **{**SELECTED, **changes})
        stages = selected.plan().stages
        return stages["pretrain"].fingerprint, stages["weights"].fingerprint

    other = {"every": EVERY, "sequences": 12}
    pretrain, weights = fingerprints()
    assert fingerprints(pretrain__evaluate=other)[0] == pretrain
    assert fingerprints(pretrain__evaluate=other)[1] != weights
    by_tokens = {"every": EVERY, "tokens": SEQUENCES * 32}
    assert fingerprints(pretrain__evaluate=by_tokens) == (pretrain, weights)
    assert fingerprints(pretrain__runtime={"micro_batch_size": 8}) == (pretrain, weights)
    plain = fingerprints(weights__from="pretrain")
    assert plain[0] == pretrain
    assert plain[1] != weights
    assert fingerprints(weights__from="pretrain", pretrain__evaluate=other) == plain
    fingerprints()


def test_a_resume_selects_by_the_evaluation_it_inherits(selected: Trials) -> None:
    def fingerprints(every: int) -> tuple[str, str]:
        changes = {**SELECTED, "pretrain__evaluate": {"every": every}, "weights__from": "longer"}
        tail = {"kind": "convert", "from": "longer@best"}
        selected.write(only=(*CONVERT, "longer"), **changes, tail=tail)
        planned = selected.plan().stages
        return planned["longer"].fingerprint, planned["tail"].fingerprint

    (first, tail), (second, other) = fingerprints(2), fingerprints(4)
    assert first == second
    assert tail != other
    selected.write(only=CONVERT, **SELECTED)


def test_other_bytes_of_the_best_make_its_user_run_again(copied: Trials) -> None:
    shutil.rmtree(copied.stage_run("pretrain").path)
    copied.write(only=CONVERT, **{**SELECTED, "pretrain__runtime__micro_batch_size": 8})
    result = copied.carry_out()
    result.raise_for_failure()
    assert result.plan.stages["weights"].action is Action.CHECK
    assert result.outcomes["weights"].status == "done"


def test_the_same_bytes_of_the_best_are_used_again(copied: Trials) -> None:
    shutil.rmtree(copied.stage_run("pretrain").path)
    assert copied.carry_out().outcomes["weights"].status == "reused"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pretrain__evaluate": {"every": None}}, "does not evaluate during training"),
        ({"pretrain__evaluate": None}, "does not evaluate during training"),
        (
            {"pretrain__evaluate": {"every": 30, "final": False}},
            "has 20 steps and evaluates every 30, so it never evaluates",
        ),
        (
            {"weights__from": "pretrain@best:val_loss/code"},
            r"unknown metric 'val_loss/code'; .*did you mean 'val_loss/code_tokens'\?",
        ),
    ],
    ids=["only at the end", "not at all", "too seldom", "unknown metric"],
)
def test_where_there_is_nothing_to_choose_from_nothing_starts(
    trials: Trials, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(PreflightError, match=rf"'pretrain@best.*{told}"):
        trials.run(only=CONVERT, **{**SELECTED, **changes})


def test_a_best_checkpoint_that_is_gone_is_told_and_no_other_is_taken(copied: Trials) -> None:
    shutil.rmtree(copied.stage_run("weights").path)
    best = lowest(losses(copied))
    shutil.rmtree(copied.stage_run("pretrain").checkpoint_dir(best))
    with pytest.raises(PreflightError, match=f"complete and has no checkpoint of step {best}"):
        copied.carry_out()


def test_a_policy_of_keeping_the_best_saves_it_too(trials: Trials) -> None:
    trials.run(
        only=(*DATA_STAGES, "pretrain"),
        **{key: value for key, value in SELECTED.items() if key.startswith("pretrain")},
        pretrain__runtime__checkpoint={"every": 3, "keep_best": "val_loss"},
    )
    assert lowest(losses(trials)) in steps_of(trials.stage_run("pretrain").checkpoints())


OVERFLOWING = {
    **SELECTED,
    "pretrain__optimizer": {"name": "SGD", "lr": 1e30},
    "pretrain__on_nonfinite": "skip",
    "pretrain__max_norm": None,
    "pretrain__max_steps": 9,
}
"""Weights so large that every loss overflows, in steps that are skipped."""


def test_a_run_that_never_had_a_finite_loss_fails_its_user_in_words(trials: Trials) -> None:
    trials.write(only=CONVERT, **OVERFLOWING)
    with pytest.raises(StageFailedError, match="its val_loss was never finite"):
        trials.carry_out().raise_for_failure()
    with pytest.raises(PreflightError, match="its val_loss was never finite"):
        trials.carry_out()
