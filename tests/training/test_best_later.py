"""`pretrain@best` in an experiment whose pretraining ran before anybody asked for its best."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import PreflightError
from continuum.planning.plan import Action
from tests.training.samples import Trials, steps_of
from tests.training.test_best import CONVERT, SELECTED, losses, lowest, model

ALONE = CONVERT[:-1]
"""The pretraining, and nobody who selects from it."""
PLAIN = {name: value for name, value in SELECTED.items() if name.startswith("pretrain")}
ALL_KEPT = {"micro_batch_size": 4, "checkpoint": {"every": 2, "keep_last": 20}}
CHOOSING = {**SELECTED, "pretrain__runtime": ALL_KEPT}


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """A pretraining that kept every evaluated checkpoint; tests copy it."""
    folder = tmp_path_factory.mktemp("finished") / "toy"
    shutil.copytree(data, folder)
    trials = Trials(folder)
    trials.run(only=ALONE, **{**PLAIN, "pretrain__runtime": ALL_KEPT})
    return trials


@pytest.fixture
def copied(finished: Trials, tmp_path: Path) -> Trials:
    shutil.copytree(finished.folder, tmp_path / "copied")
    return Trials(tmp_path / "copied")


def test_a_finished_training_is_asked_and_not_trained_again(copied: Trials) -> None:
    copied.write(only=CONVERT, **CHOOSING)
    result = copied.carry_out()
    result.raise_for_failure()
    assert result.plan.stages["pretrain"].action is Action.REUSE
    best = lowest(losses(copied))
    assert 0 < best < 20
    assert model(copied, "weights").step == best
    assert not copied.plan().has_work
    graph = (copied.folder / "lineage.json").read_text(encoding="utf-8")
    assert '"best_by": [' in graph


def test_where_the_best_was_not_kept_the_plan_says_so_and_nothing_starts(copied: Trials) -> None:
    best = lowest(losses(copied))
    shutil.rmtree(copied.stage_run("pretrain").checkpoint_dir(best))
    copied.write(only=CONVERT, **CHOOSING)
    with pytest.raises(PreflightError) as caught:
        copied.carry_out()
    assert caught.value.exit_code == 4
    assert f"pretrain is complete and has no checkpoint of step {best} (the best)" in str(
        caught.value
    )
    assert "select one of these, for example pretrain@step-20" in str(caught.value)
    assert "run `continuum run --rerun pretrain` to train again" in str(caught.value)
    assert copied.plan().stages["pretrain"].action is Action.REUSE


def test_the_best_of_another_evaluation_is_another_question(copied: Trials) -> None:
    copied.write(only=CONVERT, **{**CHOOSING, "pretrain__evaluate": {"every": 4, "sequences": 8}})
    with pytest.raises(PreflightError, match="has changed since runs/pretrain-"):
        copied.carry_out()


def test_an_interrupted_training_still_knows_what_it_evaluated(trials: Trials) -> None:
    plain = {**PLAIN, "pretrain__runtime": ALL_KEPT}
    trials.write(only=ALONE, **plain)
    trials.carry_out(stop_at=19)
    assert lowest(losses(trials)) < 19, "what was best came before the interruption"
    trials.write(only=CONVERT, **CHOOSING)
    trials.carry_out().raise_for_failure()
    assert model(trials, "weights").step == lowest(losses(trials))


def test_who_looks_on_and_who_selects_changes_no_byte(
    finished: Trials, copied: Trials, trials: Trials
) -> None:
    quiet: dict[str, Any] = {**PLAIN, "pretrain__evaluate": None}
    trials.run(only=ALONE, **quiet)
    shutil.rmtree(copied.stage_run("pretrain").path)
    copied.run(only=CONVERT, **SELECTED)
    assert steps_of(copied.stage_run("pretrain").checkpoints()) != [18, 20], "the best is kept"
    runs = [it.stage_run("pretrain") for it in (finished, trials, copied)]
    assert len({run.artifact().digest for run in runs}) == 1
