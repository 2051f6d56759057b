"""Seeds do one thing each, and a plan says where a retraining will read on."""

import json
from pathlib import Path
from typing import Any

import pytest

from continuum.runs.folder import StageRun
from continuum.stages import rebuild_stage
from tests.commands import Cli, only
from tests.planning.conftest import write_spec
from tests.planning.worlds import TINY

TOKENIZE = {"kind": "tokenize", "tokenizer": "tokenizer", "validation": {"fraction": 0.3}}
TRAIN = {"sequence_length": 8, "global_batch_size": 4, "optimizer": {"lr": 1e-3}}
DATA: dict[str, Any] = {
    "lines": {"kind": "fetch", "sources": [{"path": "lines.jsonl"}]},
    "tokenizer": {"kind": "train_tokenizer", "corpus": "lines", "vocab_size": 270},
    "tokens": {"corpus": "lines", **TOKENIZE},
}
MODELS: dict[str, Any] = {
    "pretrain": {"kind": "pretrain", "model": TINY, "data": "tokens", "max_steps": 3, **TRAIN},
    "longer": {
        "kind": "resume", "from": "pretrain", "max_steps": 5, "schedule": {"kind": "constant"},
    },
    "weights": {"kind": "convert", "from": "longer"},
    "retrain": {"kind": "retrain", "from": "weights", "data": "tokens", "max_steps": 2, **TRAIN},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents, a tokenizer, tokens split at random, and four stages that make models."""
    lines = (json.dumps({"text": f"line {number} of many, " * 9}) for number in range(60))
    (tmp_path / "lines.jsonl").write_text("\n".join(lines), encoding="utf-8")
    write_spec(tmp_path, {**DATA, **MODELS})
    return tmp_path


def plan(cli: Cli, folder: Path, *overrides: str) -> dict[str, dict[str, Any]]:
    given = (word for override in overrides for word in ("--set", override))
    document = json.loads(cli("plan", folder, "--json", *given).stdout)
    return {stage["name"]: stage for stage in document["stages"]}


def note(cli: Cli, folder: Path, *overrides: str) -> str:
    (found,) = plan(cli, folder, *overrides)["retrain"]["notes"]
    return str(found)


def test_a_sweep_over_the_seed_shares_tokenizer_and_tokens(cli: Cli, folder: Path) -> None:
    write_spec(folder, DATA)
    cli("run", folder)
    write_spec(folder, {**DATA, **MODELS})
    planned = [plan(cli, folder, f"seed={seed}") for seed in (1, 2)]
    for of_seed in planned:
        assert {of_seed[name]["action"] for name in DATA} == {"reuse"}
        assert {of_seed[name]["action"] for name in MODELS} == {"run"}
    prints = [{name: of_seed[name]["fingerprint"] for name in MODELS} for of_seed in planned]
    assert not set(prints[0].values()) & set(prints[1].values())
    assert plan(cli, folder, "seeds.split=1")["tokens"]["action"] == "run"


def test_a_stage_states_its_own_seeds(cli: Cli, folder: Path) -> None:
    before = plan(cli, folder)
    same = plan(cli, folder, "seeds.init=1", "stages.pretrain.seed=1")
    assert {it["fingerprint"] for it in same.values()} == {
        it["fingerprint"] for it in before.values()
    }
    other = plan(cli, folder, "stages.retrain.seed=2")
    assert [name for name in other if other[name] != before[name]] == ["retrain"]


def test_the_plan_says_where_a_retraining_reads_on_before_its_parents_are_trained(
    cli: Cli, folder: Path
) -> None:
    assert note(cli, folder) == "data: tokens is continued after 20 blocks"
    from_a_step = "stages.retrain.from=pretrain@step-2"
    assert note(cli, folder, from_a_step) == "data: tokens is continued after 8 blocks"
    assert "retrain: data: tokens is continued after 20 blocks" in cli("plan", folder).stdout


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("data_position=restart", "data_position: restart"),
        ("seeds.data=5", "its data seed was 1 and is 5"),
        ("sequence_length=16", "its sequence_length was 8 and is 16"),
    ],
)
def test_the_plan_says_why_data_is_read_from_its_beginning(
    override: str, why: str, cli: Cli, folder: Path
) -> None:
    told = note(cli, folder, f"stages.retrain.{override}")
    assert told == f"data: tokens is read from its beginning ({why})"


def test_a_resume_has_no_seed_of_its_own(cli: Cli, folder: Path) -> None:
    told = cli("plan", folder, "--set", "stages.longer.seed=3", expect=3).stderr
    assert "a resume continues its parent's order of the samples" in told


def test_a_seed_that_splits_nothing_is_refused(cli: Cli, folder: Path) -> None:
    overrides = ("stages.tokens.validation=none", "stages.tokens.seeds.split=3")
    given = (word for override in overrides for word in ("--set", override))
    told = cli("plan", folder, *given, expect=3).stderr
    assert "'split' has no effect: only a `fraction` draws documents at random" in told


def test_a_record_with_one_seed_is_of_an_earlier_release(cli: Cli, folder: Path) -> None:
    write_spec(folder, DATA)
    cli("run", folder)
    run = StageRun(only(folder, "runs/tokens-*"))
    path = run.path / "stage.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document.pop("seeds") == {"split": 0}
    del document["spec"]["seeds"]
    document["seed"] = 1
    path.write_text(json.dumps(document), encoding="utf-8")
    record = run.record()
    assert (record.seed, record.seeds) == (1, None)
    assert rebuild_stage(record).kind == "tokenize"
