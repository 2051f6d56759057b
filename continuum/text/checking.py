"""Whether a corpus is the text it claims to be, before anything is built on it.

Every file is read once to its end, by the rules by which its documents are read later, and counted.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from continuum.artifacts import Corpus, CorpusItem
from continuum.errors import PreflightError
from continuum.sources.file_kinds import LOOK_BYTES
from continuum.sources.source_files import DEFAULT_TEXT_FIELD
from continuum.text.content import check_block, check_packing, check_start, check_text
from continuum.text.decoding import TextReader
from continuum.text.decompression import read_blocks
from continuum.text.json_faults import BadLines
from continuum.text.json_lines import LineError, LineReader, TextField
from continuum.text.newlines import LineEnds
from continuum.text_records import TextCounts


def check_item(corpus: Corpus, item: CorpusItem) -> CorpusItem:
    """Read a whole file of the corpus; the item with what was counted in it.

    Raises:
        PreflightError: it is no text, a byte is not in the stated encoding, or a line is not what
            was promised.
    """
    path = corpus.path / item.file
    # Ended here and not when it is collected: its file stays open until then.
    with closing(_examined(path, item)) as blocks:
        reader = TextReader(path, item, blocks)
        count = _count_lines if item.format == "jsonl" else _count_whole
        counts = count(path, item, reader)
    return item.model_copy(update={"counts": counts})


def checked_corpus(folder: Path, items: Iterable[CorpusItem]) -> Corpus:
    """A corpus of these files, each of them read, with what was counted.

    Raises:
        PreflightError: one is no text as it is said to be, or there is no character in all of them.
    """
    bare = Corpus(path=folder, items=())
    corpus = Corpus(path=folder, items=tuple(check_item(bare, item) for item in items))
    names = ", ".join(item.source for item in corpus.items[:3])
    if corpus.size_bytes == 0:
        raise PreflightError(f"the corpus is empty: there are no bytes in {names}")
    if corpus.counts is not None and corpus.counts.num_chars == 0:
        raise PreflightError(f"the corpus is empty: {names} have {corpus.counts.summary()}")
    return corpus


def _examined(path: Path, item: CorpusItem) -> Generator[bytes, None, None]:
    """The unpacked blocks of a file that begins and goes on as text does."""
    check_packing(path, item)
    offset = 0
    blocks = read_blocks(path, item.source, item.compression)
    for block in _begun(path, item, blocks):
        check_block(path, item, block, offset)
        offset += len(block)
        yield block


def _begun(path: Path, item: CorpusItem, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same blocks, once what they begin with was looked at."""
    first: list[bytes] = []
    num_bytes = 0
    for block in blocks:
        first.append(block)
        num_bytes += len(block)
        if num_bytes >= LOOK_BYTES:
            break
    head = b"".join(first)[:LOOK_BYTES]
    check_start(path, item, head, is_whole=num_bytes < LOOK_BYTES)
    yield from first
    yield from blocks


def _count_whole(path: Path, item: CorpusItem, reader: TextReader) -> TextCounts:
    ends = LineEnds(item.newlines)
    num_chars = num_bytes = 0
    for text in ends.read(_without_nul(path, item, reader)):
        num_chars += len(text)
        num_bytes += _utf8_bytes(text)
    return TextCounts(
        num_documents=1,
        num_empty=int(num_chars == 0),
        num_chars=num_chars,
        size_bytes=num_bytes,
        num_crlf=ends.num_crlf,
        num_cr=ends.num_cr,
    )


def _without_nul(path: Path, item: CorpusItem, reader: TextReader) -> Iterator[str]:
    for text in reader:
        check_text(path, item, text, reader.start_byte)
        yield text


def _count_lines(path: Path, item: CorpusItem, reader: TextReader) -> TextCounts:
    ends = LineEnds(item.newlines)
    place = f"{path} ({item.source})"
    name = item.text_field or DEFAULT_TEXT_FIELD
    field = TextField(name, item.missing, forbids_equal_keys=True)
    lines = LineReader(reader, splits_at_cr=item.newlines == "unix", place=place)
    bad = BadLines(place)
    num_documents = num_empty = num_skipped = num_chars = num_bytes = 0
    for line in lines:
        try:
            text = field.text_of(line)
        except LineError as error:
            bad.bad(line, error, lines)
            continue
        bad.good(line)
        if text is None:
            num_skipped += 1
            continue
        text = ends.read_text(text)
        num_documents += 1
        num_empty += not text
        num_chars += len(text)
        num_bytes += _utf8_bytes(text)
    bad.raise_if_any()
    if num_skipped and not num_documents:
        raise PreflightError(
            f"{place}: all of its {num_skipped:,} lines were skipped, since none has a text under "
            f"{name!r}; name the right key as text_field"
        )
    return TextCounts(
        num_documents=num_documents,
        num_empty=num_empty,
        num_skipped=num_skipped,
        num_chars=num_chars,
        size_bytes=num_bytes,
        num_crlf=ends.num_crlf,
        num_cr=ends.num_cr,
    )


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
