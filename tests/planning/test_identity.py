"""What a fingerprint hangs on: the fields that decide what is made, and nothing else."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from continuum.experiment.fields import FieldValue, field_values
from continuum.loading.load import load_experiment
from tests.planning.golden_stages import SPEC, plan_with, prepare

OTHER: dict[str, Any] = {
    "accelerator": "cuda", "sequences": 9, "tokens": 9000, "on": ["tokenize"],
    "bos_token": "<s>", "collective_timeout": "5m", "compile": "on",
    "corpus": "fetch_all", "description": "Other words.", "devices": 4,
    "document": "eos", "encoding": "cp1252", "eos_token": "</s>", "epochs": 1.75,
    "fraction": 0.25, "from": "pretrain_epochs", "global_batch_size": 32,
    "keep_best": "loss", "keep_last": 7, "log_every": 9,
    "loggers": ["tensorboard"], "lr": 0.5, "max_norm": 2.0, "max_steps": 3000,
    "max_tokens": 3_000_000, "micro_batch_size": 1, "min_frequency": 5, "minutes": 3.0,
    "momentum": 0.5, "n_layer": 3, "no_weight_decay": [], "num_nodes": 4,
     "peak": 0.25, "precision": "bf16-true", "python": "abc.py",
    "repo": "toys/other", "revision": "v2", "rotary_percentage": 0.75, "seed": 8,
    "sequence_length": 64, "sha256": "cd" * 32, "special_tokens": ["<|other|>"],
    "strategy": "ddp", "text_field": "content", "to": 1e-6, "tokenizer": "train_tokenizer_all",
    "url": "https://example.org/other.txt", "vocab_size": 600, "weight_decay": 0.3,
    "betas": [0.8, 0.9], "every": 70, "keep_every": 700, "min_lr": 1e-7, "warmup": 70,
    "split": 8, "init": 8, "missing": "skip", "newlines": "keep", "lossy": "allow",
    "activation_checkpointing": "full", "attention": "math",
    "tokenize_fraction": 9.0, "tokenize_corpus": 9.0, "files": ["*.txt"], "decay": 70,
}  # fmt: skip
"""Another valid value for each field, by the last part of its path."""
SPECIAL: dict[str, Any] = {
    "evaluate.models": "convert", "evaluate_tokens.models": "convert",
    "evaluate_all.models": ["convert", "pretrain"], "evaluate.on": "fetch_all",
    "evaluate_tokens.on": "fetch_all", "evaluate_all.on": ["fetch_all"],
    "evaluate.split": "train", "evaluate_all.split": "validation",
    "evaluate_tokens.split": "train", "evaluate_all.sequence_length": 32,
    "convert.from": "pretrain", "retrain.from": "pretrain", "retrain_all.from": "resume",
    "retrain_epochs.from": "pretrain", "resume.from": "pretrain_epochs",
    "resume_epochs.from": "pretrain_all", "resume_all.from": "pretrain_all@step-700",
    "tokenize.tokenizer": "train_tokenizer_all", "import_dataset.tokenizer": "train_tokenizer",
    "tokenize_corpus.validation.corpus": "fetch_all", "tokenize.validation": {"fraction": 0.5},
    "download_tied.files": "all", "download_tied.model": "pythia-70m",
    "import_weights_untied.path": "weights-moved",
    "download_tokenizer.files": "all", "download_all.files": "weights",
    "download_all.model": "pythia-70m", "download_tokenizer.repo": "EleutherAI/pythia-70m",
    "fetch_all.sources.0.missing": "error",
    "fetch_all.sources.0.newlines": "unix", "import_corpus.newlines": "unix",
    "fetch_all.sources.0.format": None, "import_corpus.format": "txt",
    "pretrain.model": "pythia-70m", "pretrain_epochs.model": "pythia-70m",
    "pretrain_best.model": "pythia-70m", "pretrain_best.data": "tokenize_files",
    "pretrain_best.optimizer.name": "Adam", "convert_best.from": "pretrain_best",
    "pretrain_all.model.name": "pythia-31m", "pretrain.data": "tokenize_files",
    "pretrain_all.seeds.data": 8, "retrain_epochs.seeds.data": 8,
    "pretrain_epochs.data": "tokenize_files", "retrain.data": "tokenize_files",
    "retrain_epochs.data": "tokenize_files",
    "pretrain.optimizer.name": "Adam", "pretrain_all.optimizer.name": "AdamW",
    "pretrain_epochs.optimizer.name": "RMSprop", "retrain.optimizer.name": "Adam",
    "retrain_all.optimizer.name": "Adam", "retrain_epochs.optimizer.name": "Adam",
    "pretrain_epochs.schedule.kind": "cosine", "resume_epochs.schedule.kind": "cosine",
    "resume_all.schedule.kind": "linear", "fetch_path.sources.0.path": "moved/book.txt",
    "fetch_all.sources.1.path": "moved/*.md",
    "import_corpus.path": "moved/*", "import_tokenizer.path": "tokenizer-moved",
    "import_weights.path": "weights-moved", "import_dataset.path": "dataset-moved",
}  # fmt: skip
"""Where the field's name does not say what is valid, by the stage's name and the path."""
EXCHANGED = {"stop": "skip", "skip": "stop", "full": "sharded", "sharded": "full",
    "continue": "restart", "restart": "continue",
}  # fmt: skip
"""Fields with two values."""
NOT_ALONE = {"kind", "as", "format", "schedule.kind"}
"""Paths that cannot be changed alone: their other values want, or forbid, other fields."""
MOVED = {
    "data": "moved", "tokenizer": "tokenizer-moved", "weights": "weights-moved",
    "dataset": "dataset-moved",
}  # fmt: skip


def golden_fields() -> list[Any]:
    """Every value of every golden stage: a field that is new joins by itself.

    Of several stages of one kind, those after the first to have a field are slow.
    """
    found, seen = [], set()
    for name, stage in load_experiment(SPEC).stages.items():
        for item in field_values(stage):
            if item.path not in NOT_ALONE or f"{name}.{item.path}" in SPECIAL:
                field = (stage.kind, item.path)
                marks = [pytest.mark.slow] if field in seen else []
                seen.add(field)
                found.append(pytest.param(name, item, id=f"{name}.{item.path}", marks=marks))
    return found


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden experiment, and its local files a second time at other places."""
    spec = prepare(tmp_path_factory.mktemp("golden"))
    for here, there in MOVED.items():
        shutil.copytree(spec.parent / here, spec.parent / there)
    return spec


@pytest.fixture(scope="module")
def fingerprints(golden: Path) -> dict[str, str]:
    return fingerprints_of(golden)


def fingerprints_of(spec: Path, *overrides: str) -> dict[str, str]:
    return {planned.name: planned.fingerprint for planned in plan_with(spec, *overrides)}


def other_value(name: str, item: FieldValue) -> Any:
    """A valid value that the field does not have."""
    full, last = f"{name}.{item.path}", item.path.rpartition(".")[2]
    if isinstance(item.value, bool):
        return not item.value
    if full in SPECIAL:
        return SPECIAL[full]
    if isinstance(item.value, str) and item.value in EXCHANGED:
        return EXCHANGED[item.value]
    assert last in OTHER, f"{full}: say another valid value in OTHER or SPECIAL of this module"
    return OTHER[last]


@pytest.mark.parametrize(("name", "item"), golden_fields())
def test_a_field_changes_the_fingerprint_if_it_is_identity_and_only_then(
    name: str, item: FieldValue, golden: Path, fingerprints: dict[str, str]
) -> None:
    value = other_value(name, item)
    assert value != item.value
    if item.role == "location":
        value = str(golden.parent / value)
    override = f"stages.{name}.{item.path}={json.dumps(value)}"
    changed = fingerprints_of(golden, override)[name] != fingerprints[name]
    assert changed is (item.role == "identity"), f"{override} ({item.role})"


def test_fields_that_do_not_stand_alone_are_identity_too(golden: Path) -> None:
    for name, stage in load_experiment(golden).stages.items():
        identity = stage.identity()
        for item in field_values(stage):
            if item.path in NOT_ALONE:
                value = identity
                for key in item.path.split("."):
                    value = value[key]
                assert value == item.value, f"{name}.{item.path}"


def test_evaluation_counts_for_who_selects_the_best_by_it(
    golden: Path, fingerprints: dict[str, str]
) -> None:
    changed = fingerprints_of(golden, "stages.pretrain_best.evaluate.every=50")
    others = {name for name in fingerprints if changed[name] != fingerprints[name]}
    assert others == {"convert_best"}


def test_the_seed_counts_where_it_is_used(golden: Path, fingerprints: dict[str, str]) -> None:
    used_by = {
        "seed=8": {"pretrain", "pretrain_best", "retrain"},
        "seeds.init=8": {"pretrain", "pretrain_best"},
        "seeds.data=8": {"pretrain", "pretrain_best", "retrain"},
        "seeds.split=8": {"tokenize_fraction"},
        "stages.tokenize_lines.seeds.split=8": {"tokenize_lines"},
    }
    stages = load_experiment(golden).stages
    for override, used in used_by.items():
        changed = fingerprints_of(golden, override)
        for name, stage in stages.items():
            above = {ref.stage for ref in stage.refs().values()}
            is_below_one = any(changed[parent] != fingerprints[parent] for parent in above)
            is_changed = changed[name] != fingerprints[name]
            assert is_changed is (name in used or is_below_one), (override, name)


def test_a_change_reaches_all_below_it_and_nothing_else(
    golden: Path, fingerprints: dict[str, str]
) -> None:
    changed = fingerprints_of(golden, "stages.tokenize_corpus.document=eos")
    others = {name for name in fingerprints if changed[name] != fingerprints[name]}
    assert others == {"tokenize_corpus", "pretrain_all", "resume_all", "retrain_all"}


def test_what_makes_no_texts_is_still_found_by_its_earlier_name(golden: Path) -> None:
    earlier = {
        planned.name for planned in plan_with(golden) if planned.identity.earlier is not None
    }
    assert earlier == {
        "download_tokenizer",
        "download_all",
        "download_tied",
        "import_tokenizer",
        "import_weights",
        "import_weights_untied",
        "import_dataset",
    }


def test_bytes_of_local_files_count(golden: Path, tmp_path: Path) -> None:
    before = fingerprints_of(prepare(tmp_path))
    (tmp_path / "data" / "notes.md").write_text("# Other\n", encoding="utf-8")
    (tmp_path / "weights" / "lit_model.pth").write_text("other weights", encoding="utf-8")
    after = fingerprints_of(tmp_path / SPEC.name)
    others = {name for name in before if after[name] != before[name]}
    assert others == {"fetch_all", "import_corpus", "import_weights", "import_weights_untied"}


def test_neither_the_place_nor_the_machine_counts(
    golden: Path, fingerprints: dict[str, str], tmp_path: Path
) -> None:
    elsewhere = prepare(tmp_path / "quite" / "another place")
    assert fingerprints_of(elsewhere) == fingerprints
    for planned in plan_with(elsewhere):
        payload = json.dumps(planned.identity.payload)
        assert not {str(tmp_path), os.uname().nodename} & set(payload.split('"')), planned.name
        assert "null" not in payload, planned.name
