"""Two ways to write one experiment have one fingerprint; what has no single spelling raises."""

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from continuum.experiment.optimizers import OPTIMIZER_ARGUMENTS, OPTIMIZER_DEFAULTS, Optimizer
from continuum.runs.fingerprint import canonical_json, fingerprint
from tests.planning.golden_stages import plan_with, prepare

STAGE = """\
    kind: pretrain
    model: {name: pythia-14m, n_layer: 2, rotary_percentage: 1}
    data: {tokenize_fraction: 0.75, tokenize_corpus: 0.25}
    max_steps: 2000
    sequence_length: 128
    global_batch_size: 16
    optimizer: {lr: 3e-4, eps: 1e-8, weight_decay: 0, betas: [0, 0.95]}
"""


def stage_fingerprint(folder: Path, stage: str) -> str:
    """Of a stage `it` that is put at the end of the golden experiment."""
    spec = prepare(folder)
    text = spec.read_text(encoding="utf-8")
    spec.write_text(f"{text}\n  it:\n{stage}", encoding="utf-8")
    return plan_with(spec).stages["it"].fingerprint


def assert_same(folder: Path, *stages: str) -> None:
    assert stages[0] != stages[1]
    found = {stage_fingerprint(folder / str(number), s) for number, s in enumerate(stages)}
    assert len(found) == 1, stages


MIXED = "{tokenize_fraction: 0.75, tokenize_corpus: 0.25}"
SAME = [
    ("lr: 3e-4", "lr: 0.0003"),
    ("lr: 3e-4", "lr: 3.0e-4"),
    ("lr: 3e-4", "lr: 0.3e-3"),
    *(("max_steps: 2000", f"max_steps: {n}") for n in ("2_000", "2k", "2K", "0.002M", "2e3")),
    ("weight_decay: 0,", "weight_decay: 0.0,"),
    ("betas: [0, 0.95]", "betas: [0.0, 0.95]"),
    ("eps: 1e-8", "eps: 0.00000001"),
    ("eps: 1e-8, ", ""),
    ("eps: 1e-8,", "eps: 1e-8, foreach: null,"),
    ("rotary_percentage: 1}", "rotary_percentage: 1.0}"),
    ("n_layer: 2,", "n_layer: 0x2,"),
    ("n_layer: 2,", "n_layer: 2, n_embd: 128,"),
    ("n_layer: 2,", "n_layer: 2, rope_base: 10000,"),
    ("name: pythia-14m, n_layer", "name: EleutherAI/pythia-14m, n_layer"),
    (MIXED, "{tokenize_fraction: 3, tokenize_corpus: 1}"),
    (MIXED, "{tokenize_fraction: 0.3, tokenize_corpus: 0.1}"),
    (MIXED, "{tokenize_corpus: 0.25, tokenize_fraction: 0.75}"),
    ("max_steps: 2000", "max_tokens: 4_096_000"),
    ("max_steps: 2000", "max_tokens: 4_097_000"),  # whole steps of them are taken
    ("lr: 3e-4,", "lr: 3e-4, name: AdamW, amsgrad: false, maximize: false,"),
    ("lr: 3e-4,", "lr: 3e-4, fused: null, differentiable: false,"),
    ("lr: 3e-4,", "lr: 3e-4, no_weight_decay: [],"),
]
SCHEDULES = [
    ("warmup: 10%", "warmup: 10.0%"),
    ("warmup: 10%", "warmup: {percent: 10}"),
    ("warmup: 100", "warmup: {steps: 100}"),
    ("warmup: 100", "warmup: 0.1k"),
    ("warmup: {tokens: 300k}", "warmup: {tokens: 300_000}"),
    ("min_lr: 10%", "min_lr: 10.0%"),
    ("min_lr: 10%", "min_lr: 10 %"),
    ("min_lr: 0", "min_lr: 0.0"),
    ("min_lr: 50%", "min_lr: 1.5e-4"),
    ("warmup: 5%", "warmup: 100"),
    ("warmup: 100", "warmup: {tokens: 204_800}"),
    ("warmup: 0", "warmup: 0%"),
    ("kind: wsd, decay: 10%", "kind: wsd, decay: 200"),
]
DEFAULTS = [
    "description: Words.",
    "precision: auto",
    "schedule: {}",
    "schedule: {kind: cosine, warmup: 5%, min_lr: 10%}",
    "max_norm: 1.0\n    on_nonfinite: stop",
    "epochs: null\n    max_tokens: null",
    "evaluate: null",
    "runtime: {devices: 1, checkpoint: {keep_last: 2}}",
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_means_the_same_is_the_same(one: str, other: str, tmp_path: Path) -> None:
    assert_same(tmp_path, STAGE, STAGE.replace(one, other))


@pytest.mark.parametrize(("one", "other"), SCHEDULES)
def test_a_part_of_a_run_has_one_meaning(one: str, other: str, tmp_path: Path) -> None:
    assert_same(tmp_path, *(f"{STAGE}    schedule: {{{words}}}\n" for words in (one, other)))


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_a_default_written_out_changes_nothing(defaults: str, tmp_path: Path) -> None:
    assert_same(tmp_path, STAGE, f"{STAGE}    {defaults}\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MIXED, "{tokenize_fraction: 0.25, tokenize_corpus: 0.75}"),
        ("max_steps: 2000", "max_tokens: 4_098_048"),
        ("n_layer: 2,", "n_layer: 2, n_embd: 256,"),
        ("eps: 1e-8, ", "eps: 1e-7, "),
        ("lr: 3e-4,", "lr: 3e-4, name: Adam,"),
        ("lr: 3e-4,", "lr: 3e-4, foreach: false,"),
    ],
)
def test_what_means_something_else_is_another(one: str, other: str, tmp_path: Path) -> None:
    assert one in STAGE
    stages = (STAGE, STAGE.replace(one, other))
    assert len({stage_fingerprint(tmp_path / str(n), it) for n, it in enumerate(stages)}) == 2


def test_one_dataset_is_a_mixture_of_it_alone(tmp_path: Path) -> None:
    data = ("tokenize_fraction", "{tokenize_fraction: 1.0}", "{tokenize_fraction: 7}")
    assert_same(tmp_path, *(STAGE.replace(MIXED, it) for it in data))


def test_a_model_by_its_name_alone_has_no_other_fields(tmp_path: Path) -> None:
    models = ("pythia-14m", "{name: pythia-14m}", "{name: pythia-14m, n_layer: 6}")
    written = "{name: pythia-14m, n_layer: 2, rotary_percentage: 1}"
    assert written in STAGE
    assert_same(tmp_path, *(STAGE.replace(written, it) for it in models))


@pytest.mark.parametrize("name", OPTIMIZER_ARGUMENTS)
def test_the_defaults_of_an_optimizer_are_torchs(name: str) -> None:
    accepted = inspect.signature(getattr(torch.optim, name)).parameters
    for argument in OPTIMIZER_ARGUMENTS[name]:
        default = accepted[argument].default
        optimizer = Optimizer.model_validate({"name": name, "lr": 1e-3, argument: default})
        assert optimizer.arguments == {}, argument
        if default not in (None, False):
            assert OPTIMIZER_DEFAULTS[name][argument] == default


def test_the_order_of_keys_and_comments_change_nothing(tmp_path: Path) -> None:
    lines = STAGE.splitlines(keepends=True)
    turned = "".join(f"    # why\n{line}" for line in [lines[0], *reversed(lines[1:])])
    assert_same(tmp_path, STAGE, turned)


def test_a_mixture_is_read_in_one_order_however_it_is_written(tmp_path: Path) -> None:
    for number, mixture in enumerate(("{a: 1, c: 3, b: 1}", "{b: 1, a: 1, c: 3}")):
        spec = prepare(tmp_path / str(number))
        text = spec.read_text(encoding="utf-8")
        for name in "abc":
            text += f"\n  {name}: {{kind: tokenize, corpus: fetch_path, tokenizer: "
            text += "train_tokenizer, validation: none}"
        stage = STAGE.replace(MIXED, mixture)
        spec.write_text(f"{text}\n  it:\n{stage}", encoding="utf-8")
        recipe: Any = plan_with(spec).stages["it"].recipe
        assert list(recipe.data) == ["c", "a", "b"]


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, {1, 2}, b"bytes", Path("a"), {1: "a"}, {"a": {"b": [object]}}, 1j],
    ids=str,
)
def test_what_has_no_single_spelling_raises(value: Any) -> None:
    with pytest.raises(TypeError, match=r"canonical form|not a string"):
        fingerprint({"value": value})


def test_the_canonical_form_is_sorted_short_and_exact() -> None:
    payload = {"b": [1, 0.1, 1e-300, True, None], "a": "naïve"}
    assert canonical_json(payload) == '{"a":"naïve","b":[1,0.1,1e-300,true,null]}'
