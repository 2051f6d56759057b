"""Null is "off" where a field can be off, and else takes back what was said before."""

from pathlib import Path

import pytest

from continuum.loading.diagnostics import SpecError
from continuum.loading.load import load_experiment
from tests.spec.documents import TRAINING, training, write

EVALUATED = TRAINING + "    evaluate: {every: 5}\n    runtime: {devices: 2}\n"


def test_an_override_takes_a_stage_away(tmp_path: Path) -> None:
    assert "pretrain" not in training(tmp_path, "stages.pretrain=null").stages


def test_a_stage_that_others_need_is_missed_where_they_name_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="stage 'tokens' not found"):
        training(tmp_path, "stages.tokens=null")


def test_a_removed_stage_may_be_added_again(tmp_path: Path) -> None:
    overrides = ["stages.books=null", "stages.books={kind: fetch, sources: [{python: cmd.py}]}"]
    assert training(tmp_path, *overrides).stages["books"].sources[0].python == "cmd.py"


@pytest.mark.parametrize("by", ["override", "file"])
def test_what_cannot_be_null_goes_back_to_its_default(by: str, tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", EVALUATED)
    nulls = "    runtime: null\n    evaluate: null\n    optimizer: {weight_decay: null}\n"
    said = "stages:\n  pretrain:\n" + nulls if by == "file" else ""
    overrides = ("runtime=null", "evaluate=null", "optimizer.weight_decay=null")
    path = write(tmp_path / "spec.yaml", "extends: base.yaml\n" + said)
    given = [f"stages.pretrain.{text}" for text in overrides] if by == "override" else []
    base = (tmp_path / "base.yaml").read_text(encoding="utf-8")
    write(tmp_path / "base.yaml", base.replace("lr: 1e-3", "lr: 1e-3, weight_decay: 0.1"))
    pretrain = load_experiment(path, given).stages["pretrain"]
    assert pretrain.runtime.devices == 1
    assert pretrain.optimizer.arguments == {}
    assert pretrain.evaluate is None, "evaluation can be off, so null is a value of it"


def test_a_file_takes_a_stage_of_its_base_away(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", TRAINING)
    path = write(tmp_path / "spec.yaml", "extends: base.yaml\nstages: {pretrain: null}\n")
    assert list(load_experiment(path).stages) == ["books", "tokenizer", "tokens"]


def test_a_dataset_can_be_taken_out_of_a_mixture(tmp_path: Path) -> None:
    mixed = TRAINING.replace("data: tokens", "data: {tokens: 0.5, old: 0.5}")
    path = write(tmp_path / "spec.yaml", mixed)
    pretrain = load_experiment(path, ["stages.pretrain.data.old=null"]).stages["pretrain"]
    assert pretrain.data == {"tokens": 0.5}


def test_a_null_that_replaces_nothing_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", TRAINING + "    runtime: null\n")
    with pytest.raises(SpecError, match="runtime must be a mapping"):
        load_experiment(path)


def test_a_required_value_cannot_be_taken_away(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        training(tmp_path, "stages.pretrain.sequence_length=null")
    (found,) = caught.value.diagnostics
    assert str(found.place) == "--set stages.pretrain.sequence_length=null"


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("runtme", "runtime"),
        ("runtime.checkpoint.keep_lst", "keep_last"),
        ("optimizer.weight_decya", "weight_decay"),
        ("data.old", None),
    ],
)
def test_an_override_can_take_away_only_what_is_there(
    key: str, suggestion: str | None, tmp_path: Path
) -> None:
    text = TRAINING.replace("data: tokens", "data: {tokens: 1}")
    path = write(tmp_path / "spec.yaml", text)
    with pytest.raises(SpecError) as caught:
        load_experiment(path, [f"stages.pretrain.{key}=null"])
    (found,) = caught.value.diagnostics
    assert found.place.is_override
    assert found.suggestion == suggestion


def test_an_override_sends_a_field_back_to_its_default_though_nothing_is_said(
    tmp_path: Path,
) -> None:
    assert training(tmp_path, "stages.pretrain.runtime=null").stages["pretrain"].runtime.devices
