"""What the plan knows to be wrong is told with its line, by every command that reads a spec."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from continuum.lint import check
from continuum.training.litgpt import GPT, Config
from tests.commands import Cli
from tests.training.samples import FIELDS, token_stream, write_split

SPEC = """\
continuum: 1
name: problems
stages:
  books: {kind: fetch, sources: [{python: pydoc_data/topics.py}]}
  tokenizer: {kind: train_tokenizer, corpus: books, vocab_size: 512}
  tokens: {kind: tokenize, corpus: books, tokenizer: tokenizer, validation: {fraction: 0.05}}
  pretrain:
    kind: pretrain
    model: {name: pythia-14m, n_layer: 2, n_embd: 32, n_head: 2, vocab_size: 512}
    data: tokens
    max_steps: 20
    sequence_length: 32
    global_batch_size: 8
    optimizer: {lr: 1e-3}
    schedule: {kind: cosine, warmup: 2}
    runtime: {checkpoint: {every: 5}}
  weights: {kind: convert, from: pretrain}
"""
"""Nothing is wrong with it."""
CONVERT = "{kind: convert, from: pretrain}"
RESUME = "{kind: resume, from: pretrain, schedule: {kind: constant}, "


def lines_of(spec: str, line: str) -> int:
    """The number of the line that begins so."""
    return next(n for n, it in enumerate(spec.splitlines(), 1) if it.strip().startswith(line))


CASES: dict[str, tuple[list[tuple[str, str]], str, str, str]] = {
    "more ids than embeddings": (
        [("vocab_size: 512}\n    data", "vocab_size: 256, padded_vocab_size: 256}\n    data")],
        "data: tokens",
        "W016",
        "dataset 'tokens' may have token ids up to 511, but pythia-14m has 256 embeddings",
    ),
    "an indivisible batch": (
        [("global_batch_size: 8", "global_batch_size: 9")],
        "global_batch_size",
        "E401",
        "global_batch_size 9 is not divisible by devices 1 x micro_batch_size 4 = 4",
    ),
    "a sequence longer than the model attends to": (
        [("sequence_length: 32", "sequence_length: 1024")],
        "sequence_length",
        "E401",
        "sequence_length 1,024 is longer than the block_size 512 of pythia-14m",
    ),
    "no validation text": (
        [("{fraction: 0.05}", "none")],
        "data: tokens",
        "E402",
        "dataset 'tokens' has no validation split; give its stage one",
    ),
    "a step that will not exist": (
        [("from: pretrain}", "from: pretrain@step-21}")],
        "weights",
        "E401",
        "'pretrain@step-21': pretrain only has the steps 1 to 20",
    ),
    "a resume without steps of its own": (
        [(CONVERT, RESUME + "max_steps: 20}")],
        "weights",
        "E401",
        "max_steps 20 is 20 steps, and the parent already took 20: nothing would be trained",
    ),
    "a resume of as many epochs": (
        [
            ("max_steps: 20", "epochs: 2"),
            (CONVERT, RESUME + "epochs: 2}"),
        ],
        "weights",
        "E401",
        "the parent already trained 2 epochs",
    ),
    "a file that is not there": (
        [("{python: pydoc_data/topics.py}", "{path: nowhere.txt}")],
        "books",
        "E402",
        "nowhere.txt: file not found",
    ),
}
"""Changes of the spec, the line that is at fault, the code, the message."""


@pytest.mark.parametrize("case", CASES)
def test_every_command_tells_the_line(case: str, tmp_path: Path, cli: Cli) -> None:
    changes, line, code, message = CASES[case]
    right, wrong = tmp_path / "right.yaml", tmp_path / "wrong.yaml"
    text = SPEC
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    right.write_text(SPEC, encoding="utf-8")
    wrong.write_text(text, encoding="utf-8")
    at = f"{wrong}:{lines_of(text, line)}:"
    is_error = code.startswith("E")
    refusal = 4 if is_error else 0

    validated = cli("validate", wrong, expect=3 if code == "E401" else 0).stderr
    planned = cli("plan", wrong, expect=refusal)
    for shown in (validated, planned.stdout + planned.stderr):
        (told,) = [it for it in shown.splitlines() if it.startswith(at) and code in it]
        assert message in told
    validated = cli("validate", "--format", "json", wrong, expect=None).stdout
    for found in (
        json.loads(validated)["diagnostics"],
        json.loads(cli("plan", "--json", wrong, expect=refusal).stdout)["findings"],
        json.loads(cli("diff", "--json", right, wrong).stdout)["problems"],
    ):
        (told,) = [it for it in found if it["code"] == code]
        assert (told["file"], told["line"]) == (str(wrong), lines_of(text, line))
        assert message in told["message"]
    assert f"- `{at}" in cli("diff", "--md", right, wrong).stdout
    assert at in cli("diff", right, wrong).stdout.replace("\n", "")
    assert json.loads(cli("diff", "--json", wrong, right).stdout)["problems"] == []


@pytest.mark.parametrize("case", ["an indivisible batch", "a file that is not there"])
def test_a_run_tells_the_line_and_starts_nothing(case: str, tmp_path: Path, cli: Cli) -> None:
    changes, line, _, message = CASES[case]
    path, text = tmp_path / "experiment.yaml", SPEC.replace(*changes[0])
    path.write_text(text, encoding="utf-8")
    refused = cli("run", path, expect=4).stderr
    assert f"{path}:{lines_of(text, line)}:" in refused
    assert "nothing was started" in refused
    assert message in refused
    assert not list(tmp_path.glob("runs/*/stage.json"))


def test_what_only_this_machine_lacks_is_no_matter_of_the_spec(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "experiment.yaml"
    large = "{name: pythia-12b}"
    text = SPEC.replace(
        "{name: pythia-14m, n_layer: 2, n_embd: 32, n_head: 2, vocab_size: 512}", large
    )
    path.write_text(text.replace("runtime: {", "runtime: {accelerator: cpu, "), encoding="utf-8")
    assert "E403" not in cli("validate", path).stderr
    assert "warning E403" in cli("plan", path).stdout
    refused = cli("run", path, expect=4).stderr
    assert "error E403" in refused
    assert f"{path}:16:" in refused


EXISTING = """\
continuum: 1
name: existing
stages:
  books: {kind: fetch, sources: [{python: pydoc_data/topics.py}]}
  tokenizer: {kind: train_tokenizer, corpus: books, vocab_size: 512}
  tokens: {kind: import, as: dataset, path: data, tokenizer: tokenizer}
  weights: {kind: import, as: weights, path: model}
  retrain:
    kind: retrain
    from: weights
    data: tokens
    max_steps: 20
    sequence_length: 32
    global_batch_size: 8
    optimizer: {lr: 1e-3}
"""


@pytest.fixture
def existing(tmp_path: Path) -> Path:
    """A spec beside token data and weights that exist."""
    for split in ("train", "validation"):
        write_split(tmp_path / "data" / split, token_stream(2_000))
    folder = tmp_path / "model"
    folder.mkdir()
    torch.save(GPT(Config(**FIELDS)).state_dict(), folder / "lit_model.pth")
    (folder / "model_config.yaml").write_text(yaml.safe_dump(FIELDS), encoding="utf-8")
    path = tmp_path / "experiment.yaml"
    path.write_text(EXISTING, encoding="utf-8")
    return path


def test_existing_data_and_weights_are_looked_at(existing: Path) -> None:
    assert [it for it in check(existing).found if it.code.startswith("E")] == []


@pytest.mark.parametrize(
    ("old", "new", "line", "code", "message"),
    [
        ("sequence_length: 32", "sequence_length: 33", 13, "E401", "than the block_size 32 of"),
        ("global_batch_size: 8", "global_batch_size: 9", 14, "E401", "9 is not divisible by"),
    ],
    ids=["a long sequence", "an indivisible batch"],
)
def test_what_exists_does_not_fit(
    old: str, new: str, line: int, code: str, message: str, existing: Path
) -> None:
    existing.write_text(EXISTING.replace(old, new), encoding="utf-8")
    (told,) = [it for it in check(existing).found if it.code.startswith("E")]
    assert (told.code, told.place.line) == (code, line)
    assert message in told.message


def test_too_little_validation_text(existing: Path) -> None:
    shutil.rmtree(existing.parent / "data" / "validation")
    write_split(existing.parent / "data" / "validation", token_stream(20))
    (told,) = [it for it in check(existing).found if it.code.startswith("E")]
    assert (told.code, told.place.line) == ("E402", 11)
    assert "no validation block of sequence_length 32" in told.message
