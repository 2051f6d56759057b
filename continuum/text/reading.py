"""The documents of a corpus, as text fragments of bounded size.

A `txt`, `md` or `py` file is one document and is never loaded completely; a `jsonl` file holds one
document per line. Text is kept as written, with two exceptions: a byte order mark at the start of a
file is dropped, and line ends are converted if the item says so. Anything unreadable is an error
that names the file and the byte or line; nothing is replaced or skipped silently.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from continuum.errors import PreflightError
from continuum.runs.artifacts import Corpus, CorpusItem
from continuum.text.content import check_text
from continuum.text.decoding import LineEnds, OnBytes, TextReader, read_blocks
from continuum.text.json_lines import LineError, LineErrors, LineReader, TextField


@dataclass(frozen=True, eq=False)
class Document:
    """One text. `fragments` can be read once, before the next document is requested."""

    item: CorpusItem
    position: int
    """Its index in the item, from 0; skipped lines are not counted."""
    fragments: Iterator[str]


class ItemReader:
    """Reads the documents of one corpus file and counts line ends and skipped lines."""

    def __init__(
        self,
        path: Path,
        item: CorpusItem,
        blocks: Iterable[bytes],
        errors: LineErrors | None = None,
    ) -> None:
        """
        Args:
            errors: Collects the errors when a file is checked, else the first one is raised. Only
                a check finds NUL and duplicate keys: that is slow, and a file is checked once, when
                the corpus is made.
        """
        self._path = path
        self._item = item
        self._errors = errors
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
            if self._errors is not None:
                check_text(self._path, self._item, text, self.text)
            yield text

    def _texts(self) -> Iterator[str]:
        item, errors = self._item, self._errors
        place = f"{self._path} ({item.source})"
        field = TextField(item.text_field or "text", item.missing, forbids_equal_keys=bool(errors))
        lines = LineReader(self.text, splits_at_cr=item.newlines == "unix", place=place)
        for line in lines:
            try:
                text = field.text_of(line)
            except LineError as error:
                if errors is None:
                    raise PreflightError(f"{place} {lines.where}: {error}") from None
                errors.bad(line, lines.where, error)
                continue
            if errors is not None:
                errors.good(line)
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
