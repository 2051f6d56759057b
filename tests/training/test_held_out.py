"""`evaluate.at_start` and `evaluate.on`: where a curve begins, and what it is measured on."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import StoppedError
from continuum.loading.diagnostics import SpecError
from continuum.planning.plan import Action
from continuum.runs.artifacts import best_step
from continuum.training.data import Blocks, ValidationData
from tests.training.conftest import DATA_STAGES
from tests.training.loops import Recorder, make_task
from tests.training.samples import Trials, cpu_fabric, make_state, steps_of

TRAIN = (*DATA_STAGES, "pretrain")
RETRAIN = (*TRAIN, "retrain")
SHORT = {
    "pretrain__max_steps": 4,
    "retrain__max_steps": 4,
    "retrain__from": "pretrain",
    "retrain__data": "code_tokens",
    "retrain__evaluate": {"every": 2},
}
OTHER = {
    "kind": "tokenize",
    "corpus": "code",
    "tokenizer": "tokenizer",
    "validation": {"fraction": 0.3},
}


def evaluations(trials: Trials, stage: str) -> list[int]:
    return [row["step"] for row in trials.rows(stage) if "val_loss" in row]


def begin(state: Any, blocks: Blocks, **changes: Any) -> Any:
    """A task that evaluates before its first step."""
    state.evaluation_pending = True
    split = {"tokens": ValidationData(blocks, 16, rows=4)}
    return make_task(blocks, validation=split, start_step=state.step, num_steps=4, **changes)


def test_a_retraining_is_evaluated_before_its_first_step(trials: Trials) -> None:
    trials.run(only=RETRAIN, **SHORT)
    first, *_ = trials.rows("retrain")
    assert (first["step"], first["tokens"], "loss" in first) == (0, 0, False)
    assert evaluations(trials, "retrain") == [0, 2, 4]
    assert evaluations(trials, "pretrain") == [4]
    shutil.rmtree(trials.stage_run("retrain").path)
    trials.run(only=RETRAIN, **{**SHORT, "retrain__evaluate": {"every": 2, "at_start": False}})
    assert evaluations(trials, "retrain") == [2, 4]


def test_what_is_evaluated_at_the_start_are_the_parents_weights(trials: Trials) -> None:
    changes = {**SHORT, "retrain__data": "tokens", "pretrain__evaluate": {}}
    trials.run(only=RETRAIN, **changes)
    known = trials.rows("retrain")[0]["val_loss"]
    assert known == trials.checkpoint("pretrain").metrics["val_loss"]


def test_an_extension_is_evaluated_at_its_start_only_if_it_says_so(trials: Trials) -> None:
    again = {
        "kind": "resume",
        "from": "pretrain",
        "max_steps": 6,
        "schedule": {"kind": "constant"},
        "evaluate": {"every": 2, "at_start": True},
    }
    asked = {"pretrain__evaluate": {"every": 2, "at_start": True}, "pretrain__max_steps": 4}
    trials.run(only=(*TRAIN, "longer"), **asked, longer__max_steps=6, again=again)
    assert evaluations(trials, "pretrain") == [0, 2, 4]
    assert evaluations(trials, "longer") == [6]
    assert evaluations(trials, "again") == [4, 6]
    assert steps_of(trials.stage_run("again").checkpoints()) == [5, 6]


def test_the_evaluation_at_the_start_is_never_the_best_nor_a_result(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = cpu_fabric()
    state = make_state(fabric)
    task = begin(state, blocks, best_metrics=("val_loss",), evaluate_every=None, checkpoint_every=2)
    recorder.fit(fabric, state, task)
    assert [row["step"] for row in recorder.rows("val_loss")] == [0]
    assert recorder.saved == [2, 4]
    assert "val_loss" not in state.metrics
    assert best_step(state.metrics, "val_loss") is None


def test_a_stop_in_the_evaluation_at_the_start_saves_nothing(
    blocks: Blocks, recorder: Recorder
) -> None:
    fabric = cpu_fabric()
    state = make_state(fabric)
    task = begin(state, blocks, best_metrics=("val_loss",))
    with pytest.raises(StoppedError, match="after step 0"):
        recorder.fit_until(lambda: True, fabric, state, task)
    assert recorder.saved == []
    assert recorder.rows("val_loss") == []


@pytest.mark.parametrize("stop_at", [1, 3], ids=["before a checkpoint", "after one"])
def test_an_interrupted_run_has_its_beginning_once(trials: Trials, stop_at: int) -> None:
    trials.write(only=RETRAIN, **SHORT, retrain__runtime__checkpoint={"every": 2})
    trials.carry_out(stop_at=stop_at)
    for run in trials.folder.glob("runs/*train-*"):
        if stop_at == 1:  # as a kill would have it: nothing was saved
            shutil.rmtree(run / "checkpoints", ignore_errors=True)
    while trials.plan().has_work:
        trials.carry_out()
    assert evaluations(trials, "retrain") == [0, 2, 4]


def test_held_out_data_is_evaluated_and_not_trained_on(trials: Trials) -> None:
    alone = trials.copied_to(trials.folder.with_name("alone"))
    alone.run(only=TRAIN, pretrain__max_steps=4, pretrain__evaluate={"every": 2})
    evaluate = {"every": 2, "on": ["other"]}
    trials.run(only=TRAIN, pretrain__max_steps=4, pretrain__evaluate=evaluate, other=OTHER)
    last = trials.rows("pretrain")[-1]
    assert last["val_loss"] == last["val_loss/tokens"] != last["val_loss/other"]
    assert last["val_loss"] == alone.rows("pretrain")[-1]["val_loss"]
    assert trials.state("pretrain")["tokens_seen"] == alone.state("pretrain")["tokens_seen"]
    record = trials.stage_run("pretrain").record()
    assert {item.ref for item in record.inputs} == {"tokens", "other"}
    assert record.fingerprint == alone.stage_run("pretrain").record().fingerprint


def test_other_held_out_data_makes_no_finished_training_run_again(trials: Trials) -> None:
    changes = {"pretrain__max_steps": 4, "pretrain__evaluate": {"on": ["other"]}}
    trials.run(only=TRAIN, **changes, other=OTHER)
    trials.write(only=TRAIN, **changes, other={**OTHER, "validation": {"fraction": 0.2}})
    planned = trials.plan().stages
    assert (planned["other"].action, planned["pretrain"].action) == (Action.RUN, Action.REUSE)
    trials.carry_out().raise_for_failure()
    trials.write(only=TRAIN, pretrain__max_steps=4)
    assert trials.plan().stages["pretrain"].action is Action.REUSE


def test_held_out_data_that_is_made_again_makes_no_finished_training_run_again(
    trials: Trials,
) -> None:
    trials.run(only=TRAIN, pretrain__max_steps=4, pretrain__evaluate={"on": ["other"]}, other=OTHER)
    shutil.rmtree(trials.stage_run("other").path)
    assert trials.plan().stages["pretrain"].action is Action.REUSE


def test_an_extension_inherits_what_is_held_out(trials: Trials) -> None:
    trials.run(
        only=(*TRAIN, "longer"),
        pretrain__max_steps=4,
        pretrain__evaluate={"on": ["other"]},
        longer__max_steps=6,
        other=OTHER,
    )
    assert "val_loss/other" in trials.rows("longer")[-1]
    assert {item.ref for item in trials.stage_run("longer").record().inputs} == {
        *("pretrain", "tokens", "other")
    }


def test_a_checkpoint_is_chosen_by_what_is_held_out(trials: Trials) -> None:
    trials.run(
        only=(*TRAIN, "weights"),
        pretrain__max_steps=4,
        pretrain__evaluate={"every": 1, "on": ["other"]},
        weights__from="pretrain@best:val_loss/other",
        other=OTHER,
    )
    rows = [row for row in trials.rows("pretrain") if "val_loss/other" in row]
    best = min(rows, key=lambda row: (row["val_loss/other"], row["step"]))["step"]
    (used,) = trials.stage_run("weights").record().inputs
    assert used.step == best


@pytest.mark.parametrize(
    ("changes", "where", "told"),
    [
        ({"pretrain__evaluate": {"on": ["tokens"]}}, "pretrain.evaluate.on.0", "'tokens' is in"),
        ({"pretrain__evaluate": {"on": ["code_tokens", "code_tokens"]}}, "on.1", "listed twice"),
        ({"pretrain__evaluate": {"on": ["prose"]}}, "on.0", "must refer to a tokenized dataset"),
        ({"pretrain__evaluate": {"on": ["code_token"]}}, "on.0", "stage 'code_token' not found"),
        ({"pretrain__evaluate": {"on": "code_tokens"}}, "evaluate.on", "on must be a list"),
    ],
    ids=["of the mixture", "twice", "no dataset", "unknown", "no list"],
)
def test_what_cannot_be_held_out_is_a_mistake_at_its_place(
    trials: Trials, changes: dict[str, Any], where: str, told: str
) -> None:
    trials.write(only=(*TRAIN, "longer"), **changes)
    with pytest.raises(SpecError) as caught:
        trials.plan()
    (found,) = caught.value.diagnostics
    assert found.path.endswith(where)
    assert told in found.message


def test_what_the_parent_trains_on_cannot_be_held_out(trials: Trials) -> None:
    on_the_mixture = {"longer__evaluate": {"on": ["tokens"]}, "longer__max_steps": 30}
    trials.write(only=(*TRAIN, "longer"), **on_the_mixture)
    (problem,) = trials.plan().problems
    assert problem.path == ("stages", "longer", "evaluate", "on", 0)
    assert "'tokens' is in `data`" in problem.message


def test_held_out_data_of_another_tokenizer_is_refused(trials: Trials) -> None:
    mine = {"kind": "train_tokenizer", "corpus": "code", "vocab_size": 400}
    changes = {"pretrain__evaluate": {"on": ["other"]}, "mine": mine}
    trials.run(only=DATA_STAGES, mine=mine, other={**OTHER, "tokenizer": "mine"})
    trials.write(only=TRAIN, **changes, other={**OTHER, "tokenizer": "mine"})
    assert any("different tokenizers" in str(problem) for problem in trials.plan().problems)


def test_a_kill_during_the_evaluation_at_the_start_leaves_one_row(
    trials: Trials, tmp_path: Path
) -> None:
    """An attempt that was killed after the row was written, before anything was saved."""
    trials.run(only=RETRAIN, **SHORT)
    run = trials.stage_run("retrain")
    first = run.metrics_path.read_text().splitlines()[0]
    for left in ("artifact.json", "checkpoints", "output"):
        path = run.path / left
        path.unlink() if path.is_file() else shutil.rmtree(path)
    run.metrics_path.write_text(first + "\n")
    trials.carry_out().raise_for_failure()
    assert evaluations(trials, "retrain") == [0, 2, 4]
