"""Numbers and the nouns that they count."""

import re
from pathlib import Path

import pytest

import continuum
from continuum.formatting import plural


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 stages"),
        (1, "1 stage"),
        (2000, "2,000 stages"),
        (1.0, "1 stage"),
        (0.5, "0.5 stages"),
    ],
)
def test_a_noun_agrees_with_its_number(number: float, text: str) -> None:
    assert plural(number, "stage") == text


def test_no_message_leaves_the_number_open() -> None:
    sources = Path(continuum.__file__).parent.rglob("*.py")
    texts = [line for path in sources for line in path.read_text(encoding="utf-8").splitlines()]
    is_open = re.compile(r"(?<!_escape)\(s\)[^)]*\"")
    assert not [line for line in texts if is_open.search(line)]
