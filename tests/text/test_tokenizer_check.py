from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from continuum.errors import PreflightError
from continuum.text.inspection import check_tokenizer
from tests.text.altered import ALTERED, save

ABLE = {"honest-bytes", "lossy-strip", "lossy-compatibility", "lossy-byte"}
"""Those that give back the text of the check."""


def test_working_tokenizers_pass_the_check(tokenizer_folder: Path) -> None:
    assert check_tokenizer(tokenizer_folder) == ()


@pytest.mark.parametrize(
    "name",
    sorted(set(ALTERED) - {"honest-bytes", "lossy-strip", "lossy-compatibility", "lossy-byte"}),
)
def test_a_tokenizer_that_does_not_give_every_text_back_is_usable_with_a_warning(
    name: str, tmp_path: Path
) -> None:
    (remark,) = check_tokenizer(save(ALTERED[name](), tmp_path))
    assert "it does not give every text back: of 183" in remark


def test_a_tokenizer_of_known_words_alone_is_usable_with_a_warning(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"the": 0, "whale": 1}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (remark,) = check_tokenizer(save(tokenizer, tmp_path))
    assert "cannot encode text with words that it does not know" in remark


def test_a_tokenizer_that_makes_no_token_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE({"ab": 0}, []))
    with pytest.raises(PreflightError, match="makes no token of any text"):
        check_tokenizer(save(tokenizer, tmp_path))
