"""A checkpoint that another stage selects: the plan knows whether it will be there."""

import shutil
from pathlib import Path

import pytest

from continuum.lint import check
from continuum.loading.load import load_experiment
from continuum.planning.plan import NOTHING_MORE, Request
from continuum.stages.convert import Convert
from tests.in_process import plan_experiment
from tests.planning.carrying_out import carry_out_and_compare, document_of, run


@pytest.fixture
def folder(crashed: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    shutil.copytree(crashed, target)
    return target


def select(folder: Path, reference: str) -> None:
    with (folder / "experiment.yaml").open("a", encoding="utf-8") as file:
        file.write(f"  picked: {{kind: convert, from: {reference}}}\n")


def problem(folder: Path, request: Request = NOTHING_MORE) -> str:
    (stage,) = (s for s in document_of(folder, request)["stages"] if s["name"] == "picked")
    return "; ".join(stage["problems"])


NEVER_THERE = [
    ("pretrain@step-99", "'pretrain@step-99': pretrain only has the steps 1 to 8"),
    ("longer@step-8", "'longer@step-8': longer only has the steps 9 to 12"),
]


@pytest.mark.parametrize(("reference", "words"), NEVER_THERE)
def test_a_step_that_is_never_taken_is_a_mistake_of_the_spec(
    reference: str, words: str, folder: Path
) -> None:
    select(folder, reference)
    found = check(folder / "experiment.yaml").found
    assert [it.message for it in found if it.severity == "error"] == [words]


@pytest.mark.parametrize(("reference", "words"), NEVER_THERE)
def test_the_plan_of_an_experiment_that_a_program_made_refuses_it_too(
    reference: str, words: str, folder: Path
) -> None:
    experiment = load_experiment(folder / "experiment.yaml")
    stages = {**experiment.stages, "picked": Convert.model_validate({"from": reference})}
    plan = plan_experiment(experiment.model_copy(update={"stages": stages}), folder)
    assert list(map(str, plan.problems)) == [words]


def test_a_step_that_a_recovery_skips_is_refused(folder: Path) -> None:
    select(folder, "pretrain@step-3")
    assert "pretrain resumes from step 4 and has no checkpoint of step 3; it has" in problem(folder)
    document, is_settled = carry_out_and_compare(folder)
    assert not document["ok"]
    assert not is_settled


@pytest.mark.parametrize("reference", ["pretrain@step-4", "pretrain@step-7", "longer@step-11"])
def test_a_step_that_will_be_there_is_saved_and_kept(reference: str, folder: Path) -> None:
    select(folder, reference)
    assert problem(folder) == ""
    _, is_settled = carry_out_and_compare(folder)
    assert is_settled


def test_a_run_from_the_start_saves_what_the_first_did_not(folder: Path) -> None:
    run(folder).raise_for_failure()
    select(folder, "pretrain@step-3")
    assert "pretrain is complete and has no checkpoint of step 3; found 6, 8" in problem(folder)
    again = Request(rerun=frozenset({"pretrain"}))
    assert problem(folder, again) == ""
    _, is_settled = carry_out_and_compare(folder, again)
    assert is_settled
