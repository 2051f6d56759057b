"""Checking one file as `fetch` and `import` do, for the tests of what they refuse and count."""

from pathlib import Path
from typing import Any

from continuum.artifacts import Corpus
from continuum.sources.source_files import Reading
from continuum.text.checking import check_item
from continuum.text.reading import read_documents
from continuum.text_records import TextCounts


def reading(**fields: Any) -> Reading:
    stated = {"format": None, "encoding": "utf-8", "text_field": None, **fields}
    return Reading(**stated)


def taken(folder: Path, name: str, data: bytes, **fields: Any) -> Corpus:
    """The corpus of one file, checked and counted."""
    path = folder / name
    path.write_bytes(data)
    item = reading(**fields).item(path, source=name, name=name)
    return Corpus(path=folder, items=(check_item(Corpus(path=folder, items=()), item),))


def counted(folder: Path, name: str, data: bytes, **fields: Any) -> TextCounts:
    counts = taken(folder, name, data, **fields).counts
    assert counts is not None
    return counts


def texts(corpus: Corpus) -> list[str]:
    return ["".join(document.fragments) for document in read_documents(corpus)]
