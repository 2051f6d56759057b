"""What the plan knows of a tokenization, and what it refuses."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from continuum.digest_cache import DigestCache
from continuum.errors import ContinuumError
from continuum.planner import make_plan
from continuum.runs import ExperimentFolder
from continuum.spec.experiment import load_experiment
from continuum.stages.tokenize import Tokenize
from tests.experiments import small_flow
from tests.support import make_stage
from tests.text.samples import write_corpus
from tests.text.tokenizations import forecast_of, make, tokenize


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ("none", {"train": 1000}),
        ({"fraction": 0.1}, {"train": 1000, "validation": 1000}),
        ({"files": ("a.txt",)}, {"train": 1000, "validation": 1000}),
        ({"corpus": "others"}, {"train": 1000, "validation": 70}),
    ],
    ids=["none", "fraction", "files", "corpus"],
)
def test_before_it_exists_a_corpus_bounds_the_tokens(
    tmp_path: Path, validation: Any, expected: dict[str, int]
) -> None:
    stage = make(tmp_path, validation=validation)
    assert forecast_of(stage, books=1000, others=70).max_tokens == expected
    assert forecast_of(stage, books=None, others=None).max_tokens == {}


def test_a_corpus_that_exists_bounds_each_split(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": "x" * 100, "b.txt": "y" * 50})
    stage = make(tmp_path, validation={"files": ("b.txt",)})
    assert forecast_of(stage, books=corpus).max_tokens == {"train": 102, "validation": 52}


def test_the_bound_holds_for_text_that_grows_or_is_compressed(tmp_path: Path) -> None:
    latin = write_corpus(tmp_path / "a", {"a.txt": "é" * 100}, encoding="latin-1")
    packed = write_corpus(tmp_path / "b", {"a.txt.gz": "x" * 10_000})
    assert forecast_of(make(tmp_path), books=latin).max_tokens["train"] >= 200
    assert forecast_of(make(tmp_path), books=packed).max_tokens == {}


@pytest.mark.parametrize(
    "validation",
    ["nothing", {}, {"share": 1}, {"fraction": 0}, {"fraction": 1}, {"files": ()}, 5, None,
     {"fraction": 0.1, "files": ("a",)}],
    ids=str,
)  # fmt: skip
def test_other_forms_of_validation_are_no_spec(tmp_path: Path, validation: Any) -> None:
    with pytest.raises(ValidationError, match="validation"):
        make(tmp_path, validation=validation)


def test_validation_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="validation"):
        make_stage(Tokenize, tmp_path, corpus="a", tokenizer="b")


def test_a_spoiled_corpus_is_an_error_the_user_can_act_on(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": b"good text \xff"})
    with pytest.raises(ContinuumError, match="byte 10 is not utf-8"):
        tokenize(tmp_path, trained_tokenizer, {"books": corpus})


def test_the_plan_needs_no_heavy_library() -> None:
    code = (
        "import sys, continuum.stages.tokenize, continuum.stages.train_tokenizer\n"
        "print([m for m in ('torch', 'numpy', 'tokenizers', 'litdata') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("vocab_size", "is_doubted"), [(512, False), (2048, True)])
def test_a_vocabulary_beyond_the_models_is_told_before_the_tokens_exist(
    vocab_size: int, is_doubted: bool, tmp_path: Path
) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(small_flow(tokenizer__vocab_size=vocab_size), encoding="utf-8")
    folder = ExperimentFolder(tmp_path)
    plan = make_plan(load_experiment(path), folder, DigestCache(folder.digest_cache_path))
    told = "dataset 'tokens' may have token ids up to 2,047, but pythia-14m has 512 embeddings"
    for stage in ("pretrain", "longer", "retrain"):
        found = plan.stages[stage].forecast.warnings
        assert any(str(warning).startswith(told) for warning in found) == is_doubted
