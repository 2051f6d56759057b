"""The documents of a corpus, as text, in pieces of bounded size.

A `txt`, `md` or `py` file is one document and is never whole in memory; a `jsonl` file holds one
document a line. Text arrives as written, but for two things: a byte order mark at the start of a
file is dropped, and line ends are read as the item says. What cannot be read is an error that names
the file and the byte or line; nothing is replaced or skipped in silence.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from continuum.artifacts import Corpus, CorpusItem
from continuum.errors import PreflightError
from continuum.text.decoding import TextReader
from continuum.text.decompression import BLOCK_BYTES, OnBytes, read_blocks
from continuum.text.json_lines import MAX_LINE_CHARS, LineError, LineReader, TextField
from continuum.text.newlines import LineEnds

__all__ = ["BLOCK_BYTES", "MAX_LINE_CHARS", "Document", "OnBytes", "read_documents"]


@dataclass(frozen=True)
class Document:
    """One text. `fragments` can be read once, before the next document is asked for."""

    item: CorpusItem
    position: int
    """Which document of its item it is, from 0; lines that are skipped are not counted."""
    fragments: Iterator[str]


def read_documents(
    corpus: Corpus, items: Iterable[CorpusItem] | None = None, *, on_bytes: OnBytes | None = None
) -> Iterator[Document]:
    """The documents of `items` (default: all of the corpus), in order.

    Raises:
        IntegrityError: a file is missing.
        PreflightError: a file cannot be decompressed, decoded or parsed.
    """
    for item in corpus.items if items is None else items:
        path = corpus.path / item.file
        blocks = read_blocks(path, item.source, item.compression, on_bytes)
        reader = TextReader(path, item, blocks)
        if item.format == "jsonl":
            yield from _json_documents(path, item, reader)
        elif item.newlines == "keep":
            yield Document(item, 0, iter(reader))
        else:
            yield Document(item, 0, LineEnds(item.newlines).read(reader))


def _json_documents(path: Path, item: CorpusItem, reader: TextReader) -> Iterator[Document]:
    # Equal keys were looked for when the file became part of the corpus.
    field = TextField(item.text_field or "text", item.missing, forbids_equal_keys=False)
    ends = LineEnds(item.newlines)
    place = f"{path} ({item.source})"
    position = 0
    lines = LineReader(reader, splits_at_cr=item.newlines == "unix", place=place)
    for line in lines:
        try:
            text = field.text_of(line)
        except LineError as error:
            raise PreflightError(
                f"{place} byte {lines.byte:,}, line {lines.number:,}: {error}"
            ) from None
        if text is None:
            continue
        text = ends.read_text(text)
        yield Document(item, position, iter((text,) if text else ()))
        position += 1
