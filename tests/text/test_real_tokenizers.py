"""Published tokenizers: no cut changes an id, at every place where one may be."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, takewhile
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from continuum.text.encoding import Method, choose_method
from continuum.text.pieces import Cutter
from tests.text.packages import NAMES, debian_texts, fetch_tokenizer, python_texts
from tests.text.samples import messy_text

pytestmark = pytest.mark.slow

MAX_CHARS = 6_000_000
MAX_TINY_CHARS = 1_000_000
PLANTED = (
    "x²,y ½, ①. " * 30
    + "e\u0301 \u1112\u1161\u11ab 가\u11a8 ﬁ Å 1e\u0301\u0323, q\u0307\u0323 "
    + "\r\n\r\n\n \n\t\tword\nword  word。、「日本」 \u017f's K'S it's IT'S 1,024.5  \u00a0\u2028"
    + "<|endoftext|> <s></s> <unk> <|im_start|>"
) * 20


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of many scripts, small and large."""
    folder = tmp_path_factory.mktemp("debian")
    found = [PLANTED, messy_text(20_000), *_first(python_texts(), MAX_CHARS // 2)]
    for package in ("manpages-zh", "fortunes-ru"):
        found += _first(debian_texts(package, folder / package), MAX_CHARS // 4)
    return [*found, "\n".join(found)[:MAX_TINY_CHARS]]


@pytest.fixture(scope="session", params=NAMES)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetch_tokenizer(request.param, tmp_path_factory.mktemp("tokenizers") / request.param)


def _first(texts: Iterator[str], max_chars: int) -> list[str]:
    found = list(texts)
    totals = accumulate(map(len, found))
    pairs = zip(found, totals, strict=True)
    return [text for text, _ in takewhile(lambda pair: pair[1] < max_chars, pairs)]


def test_ids_are_those_of_whole_texts(published: Path, texts: Sequence[str]) -> None:
    method = choose_method(published, [PLANTED[:5000]])
    expected = _whole(published, texts)
    for text, ids in zip(texts, expected, strict=True):
        assert _pieces_ids(method, method.cutter, text) == ids


def test_no_cut_changes_an_id(published: Path, texts: Sequence[str]) -> None:
    method = choose_method(published, [PLANTED[:5000]])
    if method.cutter is None:
        pytest.skip("this tokenizer's texts are not cut")
    few = _first(iter(texts), MAX_TINY_CHARS)
    num_pieces = 0
    for text, ids in zip(few, _whole(published, few), strict=True):
        tiny = Cutter(method.cutter.places, piece_chars=1)
        num_pieces += sum(1 for _ in tiny.cut((text,)))
        assert _pieces_ids(method, tiny, text) == ids
    assert num_pieces > sum(map(len, few)) / 20


def _pieces_ids(method: Method, cutter: Cutter | None, text: str) -> list[int]:
    pieces = list(cutter.cut((text,))) if cutter else [text]
    assert "".join(pieces) == text
    found: list[int] = method.encoder.encode(pieces).ids.tolist()
    return found


def _whole(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]
    package = pytest.importorskip("sentencepiece")
    processor = package.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    rows: list[list[int]] = processor.encode(list(texts))
    return rows
