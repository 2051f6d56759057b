"""What a run refuses: known before anything starts (exit 4), or as a stage runs (exit 5)."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from continuum.lint import check
from tests.commands import Cli, only
from tests.training.samples import token_stream, write_split

HEAD = "continuum: 1\nname: refused\nstages:\n"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the stages of a spec; the folder."""

    def write(stages: str) -> Path:
        (tmp_path / "experiment.yaml").write_text(HEAD + stages, encoding="utf-8")
        return tmp_path

    return write


def write_tokenizer(folder: Path, text: str) -> None:
    """A byte-level BPE of 300 ids with one special token, trained on a text."""
    folder.mkdir(exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "GPTNeoXTokenizer", "bos_token": "<|endoftext|>"}', encoding="utf-8"
    )


def test_what_a_stage_refuses_leaves_no_copy_and_is_not_before_the_start(
    cli: Cli, write: Write
) -> None:
    folder = write(
        "  tokenizer: {kind: import, as: tokenizer, path: own}\n"
        "  tokens: {kind: import, as: dataset, path: data, tokenizer: tokenizer}\n"
    )
    write_tokenizer(folder / "own", "a cat sat on a mat\n" * 20)
    write_split(folder / "data" / "train", [1, 2, 400, *token_stream(200)])
    for _ in range(2):  # the first starts the tokenizer too, the second only what is refused
        refused = cli("run", "--in-process", folder, expect=5)
        assert "tokens: data/train/chunk-0-0.bin: token 2 is 400, but" in refused.stderr
        left = {path.name for path in only(folder, "runs/tokens-*").iterdir()}
        assert left == {".lock", "attempts.jsonl", "stage.json"}


MODEL = "{name: pythia-14m, n_layer: 1, n_embd: 16, n_head: 2, vocab_size: 300}"
TRAIN = "max_steps: 2, sequence_length: 8, global_batch_size: 4, optimizer: {lr: 1e-3}"
TWO_TOKENIZERS = f"""\
  texts: {{kind: import, as: corpus, path: texts.txt}}
  other_texts: {{kind: import, as: corpus, path: other.txt}}
  own: OWN
  other: OTHER
  tokens: {{kind: tokenize, corpus: texts, tokenizer: own, validation: {{fraction: 0.2}}}}
  others: {{kind: tokenize, corpus: other_texts, tokenizer: other, validation: {{fraction: 0.2}}}}
  pretrain: {{kind: pretrain, model: {MODEL}, data: tokens, {TRAIN}}}
  longer: {{kind: resume, from: pretrain, max_steps: 4, schedule: {{kind: constant}}}}
  weights: {{kind: convert, from: longer}}
  retrain: {{kind: retrain, from: weights, data: others, {TRAIN}}}
"""
DATA_OF_RETRAIN = (13, "data: others")


@pytest.fixture
def two_tokenizers(write: Write) -> Callable[[str, str], Path]:
    """Write a spec whose retrain has data of another tokenizer; the folder."""

    def make(own: str, other: str) -> Path:
        folder = write(TWO_TOKENIZERS.replace("OWN", own).replace("OTHER", other))
        texts = {"own": "a cat sat on a mat\n" * 60, "other": "the dog ran off\n" * 60}
        for name, text in texts.items():
            write_tokenizer(folder / f"{name}_files", text)
        (folder / "texts.txt").write_text(texts["own"], encoding="utf-8")
        (folder / "other.txt").write_text(texts["other"], encoding="utf-8")
        return folder

    return make


TRAINED = "{kind: train_tokenizer, corpus: %s, vocab_size: 270}"
IMPORTED = "{kind: import, as: tokenizer, path: %s_files}"


def test_imported_tokenizers_that_differ_are_known_before_anything_starts(
    two_tokenizers: Callable[[str, str], Path],
) -> None:
    folder = two_tokenizers(IMPORTED % "own", IMPORTED % "other")
    (found,) = (it for it in check(folder / "experiment.yaml").found if it.code == "E402")
    assert found.place.line == DATA_OF_RETRAIN[0]
    assert found.message == (
        "dataset 'others' uses another tokenizer than the model 'weights'; tokenize it with the "
        "model's own, 'own'"
    )
    same = two_tokenizers(IMPORTED % "own", IMPORTED % "own") / "experiment.yaml"
    assert not [it for it in check(same).found if "tokenizer" in it.message]


@pytest.mark.slow
def test_tokenizers_yet_to_be_trained_are_compared_before_a_model_is(
    two_tokenizers: Callable[[str, str], Path], cli: Cli
) -> None:
    folder = two_tokenizers(TRAINED % "texts", TRAINED % "other_texts")
    (found,) = (it for it in check(folder / "experiment.yaml").found if it.code == "W016")
    assert found.place.line == DATA_OF_RETRAIN[0]
    assert "'own' and 'other': if these differ, the run is refused" in found.message
    refused = cli("run", "--in-process", folder, expect=5).stderr
    assert "pretrain: refused: retrain: dataset 'others' uses another tokenizer than" in refused
    assert not list(folder.glob("runs/pretrain-*/checkpoints/*"))


@pytest.mark.slow
def test_a_tokenizer_that_fails_does_not_keep_another_model_from_being_trained(
    two_tokenizers: Callable[[str, str], Path], cli: Cli
) -> None:
    folder = two_tokenizers(TRAINED % "texts", TRAINED % "other_texts")
    (folder / "other.txt").write_bytes(b"\xff" * 900)
    done = cli("run", "--in-process", folder, expect=5)
    results = [line.split()[:3] for line in done.stdout.splitlines()]
    assert ["other_texts", "import", "refused"] in results
    assert ["pretrain", "pretrain", "done"] in results
    assert ["weights", "convert", "done"] in results
