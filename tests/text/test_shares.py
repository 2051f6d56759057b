"""Random corpora of seven scripts: shares are as asked, both sides together are the text."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import pytest

from continuum.artifacts import CorpusItem
from continuum.text.reading import Document
from continuum.text.splits import TOLERANCE, divide, draw, error_of, survey

SCRIPTS = {
    "latin": "abcdefghijklmnopqrstuvwxyzéüß0123456789",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщ",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "hindi": "कखगघचछजझटठडढतथदधनिीुूे्ंमयरलव",
    "chinese": "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未",
    "thai": "กขคงจฉชซดตถทนบปผพฟมยรลวสหอะาิีึืุูเแโ่้",
    "emoji": "😀👍🏽❤\ufe0f👩\u200d👧🇩🇪",
}
STOPS = {"hindi": "।", "chinese": "。", "arabic": "؟"}
GAPS = (("",), ("", "\n"), (" ",), (" ", " ", ". ", "\n"), (" ", "\n\n", "! "), (" ", "\r\n"))
"""Without spaces and line ends, with either, or both."""
ITEM = CorpusItem(file="a", source="a", size_bytes=0, sha256="", format="txt")


@dataclass(frozen=True)
class Outcome:
    """What became of one corpus."""

    is_refused: bool
    could_hold: bool
    """Whether both sides could hold a thousand characters."""


def random_text(draws: random.Random, most: int = 100_000) -> str:
    """One to `most` characters, evenly, or of any order of magnitude as likely as another."""
    length = draws.choice((draws.randint(1, most), round(most ** draws.random())))
    script = draws.choice(list(SCRIPTS))
    gaps = (*draws.choice(GAPS), STOPS.get(script, ""))
    letters = SCRIPTS[script]
    words = [
        "".join(draws.choices(letters, k=draws.randint(1, 12))) + draws.choice(gaps)
        for _ in range(min(200, length))
    ]
    text = "".join(draws.choices(words, k=length // 3 + 1))
    while len(text) < length:
        text += text
    return text[:length]


def fragments_of(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def divide_corpus(texts: list[str], fraction: float, size: int) -> Outcome:
    """Both passes over a corpus, and what must hold of them."""
    documents = (Document(ITEM, n, fragments_of(text, size)) for n, text in enumerate(texts))
    drawn = draw(survey(documents, 0), fraction)
    total = sum(map(len, texts))
    got = 0
    sides: dict[str, set[str]] = {}
    for text, number in zip(texts, drawn.num_validation.tolist(), strict=True):
        if number in (0, len(text)):
            got += number
            assert sides.setdefault(text, {str(number > 0)}) == {str(number > 0)}
            continue
        assert drawn.mode == "ends"
        parts = divide(fragments_of(text, size), len(text), number)
        beginning, end = ["".join(part.fragments) for part in parts]
        assert beginning + end == text
        assert not (beginning.endswith("\r") and end.startswith("\n"))
        got += len(end)
    error = error_of(got, total, fraction)
    is_refused = drawn.sides.problem(fraction) is not None or error > TOLERANCE
    if not is_refused:
        assert abs(got / total - fraction) <= 0.25 * min(fraction, 1 - fraction) + 1e-9
    return Outcome(is_refused, min(fraction, 1 - fraction) * total >= 1000)


def outcomes(number: int, seed: int) -> Iterator[Outcome]:
    """Corpora of one document and of many, with so many documents in all, for each kind."""
    draws = random.Random(seed)
    for _ in range(number):
        fraction = draws.uniform(0.01, 0.5)
        yield divide_corpus([random_text(draws)], fraction, draws.choice((100, 4096, 1 << 20)))
    left = 2 * number
    while left > 0:
        count = min(left, round(300 ** draws.random()))
        most = round(100_000 ** draws.uniform(0.3, 1))
        texts = [random_text(draws, most) for _ in range(count)]
        texts += draws.choices(texts, k=draws.choice((0, 0, 1, count)))
        yield divide_corpus(texts, draws.uniform(0.01, 0.5), 1 << 20)
        left -= count


def check(found: list[Outcome]) -> None:
    able = [outcome for outcome in found if outcome.could_hold]
    refused = [outcome for outcome in able if outcome.is_refused]
    assert len(able) > len(found) / 3
    assert len(refused) <= len(able) / 100


def test_shares_of_random_corpora_are_as_asked() -> None:
    check(list(outcomes(300, seed=1)))


@pytest.mark.slow
def test_shares_of_ten_thousand_random_documents_are_as_asked() -> None:
    check(list(chain.from_iterable(outcomes(1000, seed) for seed in range(2, 12))))
