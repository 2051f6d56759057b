"""How a spec says how much is evaluated, and what an earlier release said instead."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from continuum.experiment.evaluation import Evaluate
from continuum.experiment.recipe import Recipe
from continuum.lint import check, diagnose
from continuum.loading.diagnostics import Diagnostic
from continuum.planning.diff import open_side
from continuum.runs.records import StageRecord
from continuum.stages import rebuild_stage
from continuum.stages.pretrain import Pretrain
from continuum.stages.resume import Resume
from tests.experiments import small_flow
from tests.training.samples import make_recipe

FLOW = ("prose", "tokenizer", "tokens", "pretrain", "longer")


def evaluate(**fields: Any) -> Evaluate:
    return Evaluate.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, 80),
        ({"sequences": 7}, 7),
        ({"sequences": "2k"}, 1000),
        ({"sequences": "all"}, 1000),
        ({"tokens": "1k"}, 125),
        ({"tokens": 1}, 1),
        ({"tokens": 17}, 3),
        ({"tokens": "1M"}, 1000),
    ],
    ids=str,
)
def test_an_amount_is_whole_sequences_of_a_split_with_a_thousand(
    fields: dict[str, Any], wanted: int
) -> None:
    assert evaluate(**fields).num_sequences(1000, 8) == wanted


@pytest.mark.parametrize(
    "fields",
    [{"tokens": 9, "sequences": 8}, {"sequences": None}, {"sequences": "most"}, {"sequences": 0}],
    ids=str,
)
def test_an_amount_is_said_once_and_is_a_count(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        evaluate(**fields)


def mistakes(folder: Path, **changes: Any) -> tuple[Diagnostic, ...]:
    path = folder / "experiment.yaml"
    path.write_text(small_flow(only=FLOW, **changes), encoding="utf-8")
    return tuple(found for found in check(path).found if found.severity == "error")


@pytest.mark.parametrize("stage", ["pretrain", "longer"])
@pytest.mark.parametrize("batches", [6, "many"])
def test_a_number_of_batches_is_a_mistake_that_says_what_to_write(
    tmp_path: Path, stage: str, batches: int | str
) -> None:
    (told,) = mistakes(tmp_path, **{f"{stage}__evaluate": {"batches": batches}})
    assert told.path == f"stages.{stage}.evaluate.batches"
    assert told.message.endswith(
        "'batches' was removed: evaluation counts sequences, independent of micro_batch_size; "
        "use `sequences: N` with N = batches x micro_batch_size"
    )


def test_a_spec_of_an_earlier_commit_is_compared_in_the_words_of_this_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = small_flow(only=FLOW, pretrain__evaluate={"every": 10, "batches": 2})
    (tmp_path / "experiment.yaml").write_text(old, encoding="utf-8")
    who = ("-c", "user.name=Someone", "-c", "user.email=someone@example.org")
    for arguments in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "-m", "old")):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    with open_side("HEAD:experiment.yaml", diagnose) as side:
        assert side.plan.stages["pretrain"].stage.evaluate == evaluate(every=10, sequences=8)  # type: ignore[attr-defined]


EARLIER = {"every": {"steps": 10, "percent": None, "tokens": None}, "batches": 3, "final": True}


def recorded(kind: str, spec: dict[str, Any], recipe: dict[str, Any]) -> StageRecord:
    """The record of a stage whose evaluation counted micro-batches."""
    return StageRecord(
        name="stage",
        kind=kind,
        fingerprint="f" * 64,
        identity={},
        spec=spec | {"evaluate": EARLIER},
        recipe=recipe | {"evaluate": EARLIER},
        seed=1,
        inputs=(),
        provenance={},
    )


def test_a_recorded_number_of_batches_is_as_many_sequences() -> None:
    recipe = make_recipe(runtime={"micro_batch_size": 2}).model_dump(mode="json", by_alias=True)
    spec = Pretrain.model_validate(
        {
            **{"kind": "pretrain", "model": "pythia-14m", "data": "tokens", "max_steps": 3},
            **{"sequence_length": 8, "global_batch_size": 4, "optimizer": {"lr": 1e-3}},
            **{"runtime": {"micro_batch_size": 2}},
        }
    ).model_dump(mode="json", by_alias=True)
    record = recorded("pretrain", spec, recipe)
    stage = rebuild_stage(record)
    assert isinstance(stage, Pretrain)
    assert stage.evaluate == evaluate(every=10, sequences=6)
    assert Recipe.model_validate(record.recipe, strict=False).evaluate == stage.evaluate


def test_a_recorded_resume_takes_the_micro_batches_of_its_parent() -> None:
    recipe = make_recipe(runtime={"micro_batch_size": 2}).model_dump(mode="json", by_alias=True)
    spec = Resume.model_validate(
        {"kind": "resume", "from": "pretrain", "max_steps": 9, "schedule": {"kind": "constant"}}
    ).model_dump(mode="json", by_alias=True)
    stage = rebuild_stage(recorded("resume", spec, recipe))
    assert isinstance(stage, Resume)
    assert stage.evaluate == evaluate(every=10, sequences=6)
