"""Names are not identity: what is called otherwise is the same, and its run is found again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from continuum.planning.plan import Action, Cause, Reason, Request
from tests.commands import Cli
from tests.planning.carrying_out import actions_of, artifacts_of, plan_of, run
from tests.planning.conftest import Write
from tests.planning.worlds import TINY, text_of

TOKENS = {"kind": "tokenize", "tokenizer": "tokenizer", "validation": {"fraction": 0.2}}
TRAINING: dict[str, Any] = {
    "book_tokens": {**TOKENS, "corpus": "book"},
    "notes_tokens": {**TOKENS, "corpus": "notes"},
    "pretrain": {
        "kind": "pretrain",
        "model": TINY,
        "data": {"book_tokens": 0.75, "notes_tokens": 0.25},
        "max_steps": 4,
        "sequence_length": 16,
        "global_batch_size": 2,
        "optimizer": {"lr": 1e-3},
        "runtime": {"micro_batch_size": 2, "checkpoint": {"every": 2}},
    },
    "weights": {"kind": "convert", "from": "pretrain"},
}


def rename(folder: Path, **names: str) -> None:
    """Give stages other names, wherever they stand."""
    path = folder / "experiment.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {renamed(key): renamed(item) for key, item in value.items()}
        return names.get(value, value) if isinstance(value, str) else value

    document["stages"] = {
        renamed(name): {k: v if k == "kind" else renamed(v) for k, v in stage.items()}
        for name, stage in document["stages"].items()
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def folders(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "runs").glob("[a-z]*-*"))


def test_a_stage_under_another_name_is_reused(small: Write, cli: Cli) -> None:
    folder = small()
    before, lay = artifacts_of(run(folder).plan), folders(folder)
    rename(folder, tokenizer="bpe", book="novel")
    plan = plan_of(folder)
    assert {p.name: p.action.value for p in plan} == dict.fromkeys(plan.stages, "reuse")
    assert plan.stages["bpe"].reasons == (
        Reason(Cause.COMPLETE),
        Reason(Cause.RENAMED, "tokenizer"),
    )
    assert plan.stages["notes"].reasons == (Reason(Cause.COMPLETE),)
    told = cli("plan", folder, "--detailed-exitcode").stdout
    assert "renamed: it ran as tokenizer" in told
    run(folder)
    assert folders(folder) == lay
    after = artifacts_of(plan_of(folder))
    assert (after["bpe"], after["novel"]) == (before["tokenizer"], before["book"])


def test_every_command_knows_a_stage_by_its_new_name(small: Write, cli: Cli) -> None:
    folder = small()
    run(folder)
    rename(folder, tokenizer="bpe", book="novel")
    (folder_of_bpe,) = [name for name in folders(folder) if name.startswith("tokenizer-")]
    cli("run", folder, "--in-process", "--plain", "--locked")
    assert f"runs/{folder_of_bpe}" in cli("status", folder).stdout
    cli("verify", folder)
    assert "novel" in cli("lineage", folder, "bpe").stdout
    cli("run", folder, "--in-process", "--plain")
    lock = yaml.safe_load((folder / "continuum.lock").read_text(encoding="utf-8"))
    assert list(lock["stages"]) == ["novel", "notes", "bpe"]
    graph = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    assert {node["stage"] for node in graph["nodes"]} == {"novel", "notes", "bpe"}
    assert all(node["is_current"] for node in graph["nodes"])


def test_names_that_are_exchanged_lead_to_their_own_runs(small: Write) -> None:
    folder = small()
    before = artifacts_of(run(folder).plan)
    rename(folder, book="notes", notes="book")
    assert set(actions_of(folder).values()) == {"reuse"}
    after = artifacts_of(plan_of(folder))
    assert (after["book"], after["notes"]) == (before["notes"], before["book"])


def test_two_stages_that_are_the_same_share_no_folder(small: Write) -> None:
    folder = small()
    run(folder)
    small(again={"kind": "fetch", "sources": [{"path": "book.txt"}]})
    plan = plan_of(folder)
    assert plan.stages["again"].fingerprint == plan.stages["book"].fingerprint
    assert plan.stages["again"].action is Action.RUN
    assert plan.stages["again"].run.name != plan.stages["book"].run.name


def test_a_renamed_stage_that_is_changed_too_is_a_new_one(small: Write) -> None:
    folder = small()
    run(folder)
    rename(folder, book="novel")
    (folder / "book.txt").write_bytes(text_of("book", 1))
    assert plan_of(folder).stages["novel"].action is Action.RUN


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture, trained on and converted."""
    folder = tmp_path_factory.mktemp("trained")
    write_training(folder)
    run(folder).raise_for_failure()
    return folder


def write_training(folder: Path, **stages: Any) -> None:
    from tests.planning.conftest import SMALL, write_spec

    for name in ("book", "notes"):
        (folder / f"{name}.txt").write_bytes(text_of(name, 0))
    write_spec(folder, {**SMALL, **TRAINING, **stages})


def test_renamed_datasets_and_trainings_run_nothing(trained: Path) -> None:
    spec = (trained / "experiment.yaml").read_text(encoding="utf-8")
    rename(trained, book_tokens="zz", notes_tokens="aa", pretrain="first", weights="last")
    try:
        assert set(actions_of(trained).values()) == {"reuse"}
        again = Request(rerun=frozenset({"aa"}))
        assert actions_of(trained, again)["first"] == "check"
        result = run(trained, again)
        assert result.outcomes["first"].status == "reused", "the same bytes, by another name"
    finally:
        (trained / "experiment.yaml").write_text(spec, encoding="utf-8")


def spelled_otherwise(folder: Path) -> None:
    training = {
        **TRAINING["pretrain"],
        "model": {**TINY, "name": "EleutherAI/pythia-14m", "rotary_percentage": 0.25},
        "data": {"notes_tokens": 7, "book_tokens": 21},
        "max_tokens": 4 * 2 * 16,
        "optimizer": {"name": "AdamW", "lr": 0.001, "betas": [0.9, 0.999], "weight_decay": 0.01},
        "schedule": {"kind": "cosine", "warmup": 1, "min_lr": "10%"},
        "evaluate": None,
    }
    del training["max_steps"]
    write_training(folder, pretrain=training)


def renamed_throughout(folder: Path) -> None:
    write_training(folder)
    rename(folder, pretrain="first", notes_tokens="more", book_tokens="some")


@pytest.mark.parametrize("write", [spelled_otherwise, renamed_throughout])
def test_what_is_the_same_comes_out_with_the_same_bytes(
    write: Callable[[Path], None], trained: Path, tmp_path: Path
) -> None:
    write(tmp_path)
    name = "first" if "first" in plan_of(tmp_path).stages else "pretrain"
    fingerprints = [plan_of(trained).stages["pretrain"], plan_of(tmp_path).stages[name]]
    assert len({planned.fingerprint for planned in fingerprints}) == 1
    run(tmp_path).raise_for_failure()
    made = plan_of(tmp_path)
    digests = {planned.run.artifact().digest for planned in fingerprints}
    assert digests == {made.stages[name].run.artifact().digest}
    beside = made.stages[name].run.output_dir / "hyperparameters.yaml"
    assert "tokens:" not in beside.read_text(encoding="utf-8")


def test_datasets_without_files_are_not_the_same(tmp_path: Path, cli: Cli) -> None:
    cli("init", "--template", "continue", tmp_path)
    shown = cli("validate", tmp_path).stderr
    assert "no file matches" in shown
    assert "under two names" not in shown


def test_a_dataset_under_two_names_is_no_mixture(trained: Path, tmp_path: Path) -> None:
    twice = {"book_tokens": 0.5, "copy": 0.5}
    pretrain = {**TRAINING["pretrain"], "data": twice}
    write_training(tmp_path, copy=TRAINING["book_tokens"], pretrain=pretrain)
    (problem,) = map(str, plan_of(tmp_path).problems)
    assert problem == (
        "'book_tokens' and 'copy' are the same dataset under two names; "
        "keep one of them, with the sum of their shares"
    )
