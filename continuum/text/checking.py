"""Whether a corpus is the text it claims to be, before anything is built on it.

Every file is read once to its end, by the rules by which its documents are read later, and counted.
"""

import json
from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import chain
from pathlib import Path

from continuum.errors import PreflightError
from continuum.runs.artifacts import Corpus, CorpusItem
from continuum.runs.text_records import TextCounts
from continuum.sources.file_kinds import LOOK_BYTES
from continuum.sources.source_files import DEFAULT_TEXT_FIELD
from continuum.text.content import check_block, check_packing, check_start, check_text
from continuum.text.decoding import TextReader, read_blocks
from continuum.text.json_lines import ARRAY_ADVICE, OBJECT_ADVICE, LineError
from continuum.text.reading import ItemReader

MAX_SHOWN = 10
MAX_KEPT_CHARS = 1 << 22
MAX_KEPT_LINES = 50_000
"""From the first bad line on, to see whether one value goes over several of them."""


def check_item(folder: Path, item: CorpusItem) -> CorpusItem:
    """Read a whole file of the corpus; the item with what was counted in it.

    Raises:
        PreflightError: it is no text, a byte is not in the stated encoding, or a line is not what
            was promised.
    """
    path = folder / item.file
    check = _ItemCheck(path, item)
    # Ended here and not when it is collected: its file stays open until then.
    with closing(_examined(path, item)) as blocks:
        reader = ItemReader(path, item, blocks, check)
        counts = _count(reader)
    check.raise_if_bad()
    if counts.num_skipped and not counts.num_documents:
        raise PreflightError(
            f"{path} ({item.source}): all of its {counts.num_skipped:,} lines were skipped, since "
            f"none has a text under {item.text_field or DEFAULT_TEXT_FIELD!r}; name the right key "
            "as text_field"
        )
    return item.model_copy(update={"counts": counts})


def checked_corpus(folder: Path, items: Iterable[CorpusItem]) -> Corpus:
    """A corpus of these files, each of them read, with what was counted.

    Raises:
        PreflightError: one is no text as it is said to be, or there is no character in all of them.
    """
    corpus = Corpus(path=folder, items=tuple(check_item(folder, item) for item in items))
    names = ", ".join(item.source for item in corpus.items[:3])
    if corpus.size_bytes == 0:
        raise PreflightError(f"the corpus is empty: there are no bytes in {names}")
    if corpus.counts is not None and corpus.counts.num_chars == 0:
        raise PreflightError(f"the corpus is empty: {names} have {corpus.counts.summary()}")
    return corpus


def _examined(path: Path, item: CorpusItem) -> Generator[bytes, None, None]:
    """The unpacked blocks of a file that begins and goes on as text does."""
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


class _ItemCheck:
    """Gathers what is wrong with lines; says what the file is where it is no JSON lines at all."""

    def __init__(self, path: Path, item: CorpusItem) -> None:
        self._path = path
        self._item = item
        self._place = f"{path} ({item.source})"
        self._shown: list[str] = []
        self._num_bad = 0
        self._num_good = 0
        self._num_good_before = 0
        self._first = ""
        self._kept: list[str] = []
        self._kept_chars = 0

    def text(self, text: str, reader: TextReader) -> None:
        """A fragment of a text that is not JSON lines, where NUL may be written as an escape."""
        check_text(self._path, self._item, text, reader)

    def good(self, line: str) -> None:
        """A line that can be used."""
        self._num_good += 1
        if self._num_bad:
            self._keep(line)

    def bad(self, line: str, where: str, error: LineError) -> None:
        """A line that cannot be used."""
        if not self._num_bad:
            self._first = where
            self._num_good_before = self._num_good
        self._num_bad += 1
        if len(self._shown) < MAX_SHOWN:
            self._shown.append(f"{where}: {error}")
        self._keep(line)

    def raise_if_bad(self) -> None:
        """
        Raises:
            PreflightError: lines were bad.
        """
        if not self._num_bad:
            return
        self._raise_if_one_value()
        if self._num_bad == 1:
            raise PreflightError(f"{self._place} {self._shown[0]}")
        more = self._num_bad - len(self._shown)
        listed = "".join(f"\n  {shown}" for shown in self._shown)
        listed += f"\n  and {more:,} more" if more else ""
        total = self._num_bad + self._num_good
        raise PreflightError(
            f"{self._place}: {self._num_bad:,} of {total:,} lines cannot be used:{listed}"
        )

    def _keep(self, line: str) -> None:
        is_full = self._kept_chars > MAX_KEPT_CHARS or len(self._kept) >= MAX_KEPT_LINES
        if is_full:
            return
        self._kept.append(line)
        self._kept_chars += len(line) + 1
        if self._kept_chars > MAX_KEPT_CHARS or len(self._kept) == MAX_KEPT_LINES:
            self._raise_if_one_value()  # rather than to read the rest of a file that is no lines

    def _raise_if_one_value(self) -> None:
        """If the first bad line begins a value that goes on in the next, that explains the rest."""
        if fault := _value_over_lines(self._kept, is_first=not self._num_good_before):
            raise PreflightError(f"{self._place} {self._first}: {fault}")


def _value_over_lines(lines: list[str], *, is_first: bool) -> str | None:
    """What a file is whose lines are parts of one JSON value; None if they are not."""
    text = "\n".join(lines).lstrip()
    if len(lines) < 2 or text[:1] not in ("{", "[") or _num_lines_of_value(lines[0], strict=True):
        return None
    is_array = text.startswith("[")
    if is_array and is_first:
        return f"a JSON array over several lines, not JSON lines; {ARRAY_ADVICE}"
    advice = ARRAY_ADVICE if is_array else OBJECT_ADVICE
    if num_lines := _num_lines_of_value(text, strict=True):
        return (
            f"pretty-printed JSON, not JSON lines: one value goes over {num_lines:,} lines; "
            f"{advice}"
        )
    if num_lines := _num_lines_of_value(text, strict=False):
        return "a line end inside a JSON string, where it is to be written \\n; correct that line"
    return None


def _num_lines_of_value(text: str, *, strict: bool) -> int:
    """How many lines the JSON value goes over that a text begins with; 0 if it has none."""
    try:
        _, end = json.JSONDecoder(strict=strict).raw_decode(text)
    except (ValueError, RecursionError):
        return 0
    return text.count("\n", 0, end) + 1
