"""The largest id of a tokenizer is a token; the next number is damage."""

from pathlib import Path

import pytest

from continuum.errors import IntegrityError
from tests.training.samples import LENGTH, VOCABULARY, blocks_of


def test_an_id_equal_to_the_vocabularys_size_is_none_of_its_tokens(tmp_path: Path) -> None:
    inside = blocks_of(tmp_path / "inside", [VOCABULARY - 1] * (LENGTH + 1))
    assert inside.read(0).tolist() == [VOCABULARY - 1] * (LENGTH + 1)
    beyond = blocks_of(tmp_path / "beyond", [0] * LENGTH + [VOCABULARY])
    with pytest.raises(IntegrityError, match=f"token {VOCABULARY} is none"):
        beyond.read(0)
