"""What a run refuses: known before anything starts (exit 4), or as a stage runs (exit 5)."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

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
    folder.mkdir()
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
        refused = cli("run", folder, expect=5)
        assert "tokens: data/train/chunk-0-0.bin: token 2 is 400, but" in refused.stderr
        left = only(folder, "runs/tokens-*")
        assert sorted(path.name for path in left.iterdir()) == [
            ".lock",
            "attempts.jsonl",
            "log.txt",
            "stage.json",
        ]
