"""Checks the files of a corpus before anything is built on it.

Every file is read once completely, by the same rules as its documents later, and counted.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import chain
from pathlib import Path

from continuum.errors import PreflightError
from continuum.runs.artifacts import Corpus, CorpusItem
from continuum.runs.text_records import TextCounts
from continuum.sources.file_kinds import LOOK_BYTES
from continuum.sources.source_files import DEFAULT_TEXT_FIELD
from continuum.text.content import check_block, check_packing, check_start
from continuum.text.decoding import read_blocks
from continuum.text.json_lines import LineErrors
from continuum.text.reading import ItemReader

MAX_NAMED = 3
"""Empty files named in an error."""


def check_item(folder: Path, item: CorpusItem) -> CorpusItem:
    """Read a file of the corpus completely, and return the item with its counts.

    Raises:
        PreflightError: it is not text, a byte is invalid in the stated encoding, or a line is not
            valid JSON Lines.
    """
    path = folder / item.file
    place = f"{path} ({item.source})"
    errors = LineErrors(place)
    # Closed here rather than at garbage collection, until which its file stays open.
    with closing(_examined(path, item)) as blocks:
        reader = ItemReader(path, item, blocks, errors)
        counts = _count(reader)
    errors.raise_if_bad()
    if counts.num_skipped and not counts.num_documents:
        raise PreflightError(
            f"{place}: all {counts.num_skipped:,} lines were skipped, because none "
            f"has the key {item.text_field or DEFAULT_TEXT_FIELD!r}; set text_field to the "
            "right key"
        )
    return item.model_copy(update={"counts": counts})


def checked_corpus(folder: Path, items: Iterable[CorpusItem]) -> Corpus:
    """Check these files and return a corpus of them with its counts.

    Raises:
        PreflightError: a file is invalid, or the corpus is empty.
    """
    corpus = Corpus(path=folder, items=tuple(check_item(folder, item) for item in items))
    names = ", ".join(item.source for item in corpus.items[:MAX_NAMED])
    names += ", …" if len(corpus.items) > MAX_NAMED else ""
    if corpus.size_bytes == 0:
        raise PreflightError(f"the corpus is empty: no bytes in {names}")
    if corpus.counts is not None and corpus.counts.num_chars == 0:
        raise PreflightError(f"the corpus is empty: {corpus.counts.summary()} in {names}")
    return corpus


def _examined(path: Path, item: CorpusItem) -> Generator[bytes, None, None]:
    """The decompressed blocks of a file, checked to be text."""
    check_packing(path, item)
    blocks = read_blocks(path, item)
    first: list[bytes] = []
    num_bytes = offset = 0
    for block in blocks:
        first.append(block)
        num_bytes += len(block)
        if num_bytes >= LOOK_BYTES:
            break
    head = b"".join(first)[:LOOK_BYTES]
    check_start(path, item, head, is_whole=num_bytes < LOOK_BYTES)
    for block in chain(first, blocks):
        check_block(path, item, block, offset)
        offset += len(block)
        yield block


def _count(reader: ItemReader) -> TextCounts:
    num_documents = num_empty = num_chars = num_bytes = 0
    for document in reader:
        num_before = num_chars
        for text in document.fragments:
            num_chars += len(text)
            num_bytes += len(text) if text.isascii() else len(text.encode())
        num_documents += 1
        num_empty += num_chars == num_before
    return TextCounts(
        num_documents=num_documents,
        num_empty=num_empty,
        num_skipped=reader.num_skipped,
        num_chars=num_chars,
        size_bytes=num_bytes,
        num_crlf=reader.ends.num_crlf,
        num_cr=reader.ends.num_cr,
    )
