"""Texts and corpora for these tests: messy, real, of any size; checked and read."""

import gzip
import json
import pydoc_data.topics
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zstandard

from continuum.runs.artifacts import Corpus, CorpusItem
from continuum.runs.files import sha256_file
from continuum.runs.text_records import TextCounts
from continuum.sources.source_files import Reading
from continuum.text.checking import check_item
from continuum.text.reading import read_documents

LOCAL_DATA = Path(__file__).parents[3] / "shared" / "data"
"""Books and a published tokenizer beside the checkout; the tests do without where it is absent."""

_WORDS = (
    "the", "whale", "don't", "It's", "naïve", "cafe\u0301", "Straße", "кириллица", "日本語", "문장",
    "x1", "3.14", "1,024", "foo_bar", "a.b(c)", "https://x.org/?q=1&r=2", "——", "…", "😀",
    "👩\u200d👧", "<|endoftext|>", "<tag attr='v'>", "\u00a0", "\u2028", "\ufb01", "Ω",
    "e\u0301\u0323", "\u200b", "?!", "#",
)  # fmt: skip
_GAPS = (  # spaces most often
    *(" ", " ", " ", "  ", "\t", "\n", "\r\n", "\n\n"),
    *("\r\n\r\n", "\r", "    ", "", "-", ", ", ". "),
)


def messy_text(num_words: int, seed: int = 0) -> str:
    """Words of many scripts between every kind of whitespace; the same for the same seed."""
    draw = random.Random(seed)
    return "".join(draw.choice(_WORDS) + draw.choice(_GAPS) for _ in range(num_words))


def prose() -> str:
    """English documentation that every Python has, about half a megabyte."""
    return Path(str(pydoc_data.topics.__file__)).read_text(encoding="utf-8")


def books() -> Iterator[str]:
    """Real texts: always one, more where there are any."""
    yield prose()
    for path in sorted(LOCAL_DATA.glob("*.txt")):
        with path.open(encoding="utf-8", newline="") as file:
            yield file.read()


def json_lines(texts: Iterable[str], **fields: Any) -> str:
    return "".join(json.dumps({"text": text, **fields}) + "\n" for text in texts)


def write_corpus(folder: Path, files: Mapping[str, str | bytes], **fields: Any) -> Corpus:
    """A corpus of these files; format and compression by name, other item fields for all."""
    folder.mkdir(parents=True, exist_ok=True)
    return Corpus(
        path=folder,
        items=tuple(_item(folder, name, content, fields) for name, content in files.items()),
    )


def _item(folder: Path, name: str, content: str | bytes, fields: dict[str, Any]) -> CorpusItem:
    stem, _, last = name.rpartition(".")
    compression = last if last in ("gz", "zst") else "none"
    format_ = name.split(".")[-1] if compression == "none" else stem.split(".")[-1]
    data = content.encode(fields.get("encoding", "utf-8")) if isinstance(content, str) else content
    if isinstance(content, str) and compression == "gz":
        data = gzip.compress(data, mtime=0)
    if isinstance(content, str) and compression == "zst":
        data = zstandard.ZstdCompressor().compress(data)
    (folder / name).write_bytes(data)
    values = {
        "file": name,
        "source": name,
        "size_bytes": len(data),
        "sha256": sha256_file(folder / name),
        "format": format_,
        "compression": compression,
        "text_field": "text" if format_ == "jsonl" else None,
    }
    return CorpusItem.model_validate(values | fields)


def reading(**fields: Any) -> Reading:
    stated = {"format": None, "encoding": "utf-8", "text_field": None, **fields}
    return Reading(**stated)


def taken(folder: Path, name: str, data: bytes, **fields: Any) -> Corpus:
    """The corpus of one file, checked and counted."""
    path = folder / name
    path.write_bytes(data)
    item = reading(**fields).item(path, source=name, name=name)
    return Corpus(path=folder, items=(check_item(folder, item),))


def counted(folder: Path, name: str, data: bytes, **fields: Any) -> TextCounts:
    counts = taken(folder, name, data, **fields).counts
    assert counts is not None
    return counts


def texts(corpus: Corpus) -> list[str]:
    return ["".join(document.fragments) for document in read_documents(corpus)]
