import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from litgpt.tokenizer import Tokenizer as LitgptTokenizer
from tokenizers import Tokenizer

from continuum.errors import PreflightError
from continuum.files import sha256_file
from continuum.text.inspection import inspect_tokenizer


@pytest.fixture
def folder(trained_tokenizer: Path, tmp_path: Path) -> Path:
    """A copy of the trained tokenizer, to spoil."""
    return Path(shutil.copytree(trained_tokenizer, tmp_path / "tok"))


def write(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(fields), encoding="utf-8")


def test_a_tokenizer_is_described_like_litgpt_sees_it(tokenizer_folder: Path) -> None:
    found = inspect_tokenizer(tokenizer_folder, repo="some/repo", commit="abc")
    theirs = LitgptTokenizer(tokenizer_folder)
    assert (found.bos_id, found.eos_id) == (theirs.bos_id, theirs.eos_id)
    assert found.path == tokenizer_folder
    assert found.vocabulary_digest == sha256_file(tokenizer_folder / "tokenizer.json")
    assert (found.repo, found.commit) == ("some/repo", "abc")


def test_added_tokens_count_among_the_ids(folder: Path) -> None:
    before = inspect_tokenizer(folder).num_ids
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|user|>", "<|model|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    assert inspect_tokenizer(folder).num_ids == before + 2


def test_token_texts_may_be_objects(folder: Path) -> None:
    token = {"content": "<|endoftext|>", "lstrip": False}
    write(folder / "tokenizer_config.json", tokenizer_class="X", bos_token=token, eos_token=None)
    found = inspect_tokenizer(folder)
    assert (found.bos_id, found.eos_id) == (0, None)


def test_the_generation_config_gives_what_the_tokenizer_config_does_not(folder: Path) -> None:
    write(folder / "tokenizer_config.json", tokenizer_class="X", bos_token="<|endoftext|>")
    write(folder / "generation_config.json", bos_token_id=5, eos_token_id=[7, 8])
    found = inspect_tokenizer(folder)
    assert (found.bos_id, found.eos_id) == (0, 7)


def test_a_generation_config_that_is_not_needed_may_be_broken(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": 1,}', encoding="utf-8")
    assert inspect_tokenizer(folder).eos_id == 0


def test_a_tokenizer_without_a_config_has_no_marks(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    found = inspect_tokenizer(folder)
    assert (found.bos_id, found.eos_id) == (None, None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", "{", "not readable JSON"),
        ("tokenizer_config.json", "[]", "does not hold a JSON object"),
        ("tokenizer_config.json", "{}", '"tokenizer_class" is missing'),
        (
            "tokenizer_config.json",
            '{"tokenizer_class": "X", "bos_token": "<s>"}',
            "bos_token is '<s>', which tokenizer.json does not have",
        ),
        (
            "generation_config.json",
            '{"eos_token_id": 999999}',
            "EOS token's id 999999 is outside the vocabulary",
        ),
    ],
)
def test_broken_folders_are_explained(folder: Path, name: str, content: str, message: str) -> None:
    if name == "generation_config.json":
        write(folder / "tokenizer_config.json", tokenizer_class="X")
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(PreflightError, match=message):
        inspect_tokenizer(folder)
