"""The documents of a corpus, as text, in pieces of bounded size.

A `txt`, `md` or `py` file is one document and is never whole in memory; a `jsonl` file holds one
document a line. Text arrives as written, but for two things: a byte order mark at the start of a
file is dropped, and line ends are read as the item says. What cannot be read is an error that names
the file and the byte or line; nothing is replaced or skipped in silence.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from continuum.errors import PreflightError
from continuum.runs.artifacts import Corpus, CorpusItem
from continuum.text.decoding import LineEnds, OnBytes, TextReader, read_blocks
from continuum.text.json_lines import LineError, LineReader, TextField


@dataclass(frozen=True, eq=False)
class Document:
    """One text. `fragments` can be read once, before the next document is asked for."""

    item: CorpusItem
    position: int
    """Which document of its item it is, from 0; lines that are skipped are not counted."""
    fragments: Iterator[str]


class ItemCheck(Protocol):
    """Is told of what is in a file that is checked rather than used."""

    def text(self, text: str, reader: TextReader) -> None: ...

    def good(self, line: str) -> None: ...

    def bad(self, line: str, where: str, error: LineError) -> None: ...


class ItemReader:
    """The documents of one file of a corpus, and what was met on the way."""

    def __init__(
        self,
        path: Path,
        item: CorpusItem,
        blocks: Iterable[bytes],
        check: ItemCheck | None = None,
    ) -> None:
        """
        Args:
            check: Told of the text, or of each line; then two equal keys in an object are an error.
                To look for them takes time, and a file is checked once, when a corpus is made.
        """
        self._place = f"{path} ({item.source})"
        self._item = item
        self._check = check
        self.text = TextReader(path, item, blocks)
        self.ends = LineEnds(item.newlines)
        self.num_skipped = 0
        """Lines without a text."""

    def __iter__(self) -> Iterator[Document]:
        """
        Raises:
            PreflightError: the file cannot be decompressed, decoded or parsed.
        """
        if self._item.format != "jsonl":
            yield Document(self._item, 0, self.ends.read(self._checked_text()))
            return
        for position, text in enumerate(self._texts()):
            yield Document(self._item, position, iter((text,) if text else ()))

    def _checked_text(self) -> Iterator[str]:
        for text in self.text:
            if self._check is not None:
                self._check.text(text, self.text)
            yield text

    def _texts(self) -> Iterator[str]:
        item, check = self._item, self._check
        field = TextField(item.text_field or "text", item.missing, forbids_equal_keys=bool(check))
        splits_at_cr = item.newlines == "unix"
        lines = LineReader(self.text, splits_at_cr=splits_at_cr, place=self._place)
        for line in lines:
            try:
                text = field.text_of(line)
            except LineError as error:
                if check is None:
                    raise PreflightError(f"{self._place} {lines.where}: {error}") from None
                check.bad(line, lines.where, error)
                continue
            if check is not None:
                check.good(line)
            if text is None:
                self.num_skipped += 1
            else:
                yield self.ends.read_text(text)


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
        yield from ItemReader(path, item, read_blocks(path, item, on_bytes))
