"""The documents of a corpus, as text, in pieces of bounded size.

A `txt`, `md` or `py` file is one document and is never whole in memory; a `jsonl` file holds one
document a line. Text arrives exactly as written: line ends are not translated, and only a byte
order mark at the start of a file is dropped. What cannot be read is an error that names the file
and the byte or line; nothing is replaced or skipped in silence.
"""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from continuum.artifacts import Corpus, CorpusItem
from continuum.errors import IntegrityError, PreflightError

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

BLOCK_BYTES = 1 << 19
"""Bytes decoded at a time."""
MAX_LINE_CHARS = 1 << 26
"""A longer line is no document of a JSON-lines file, but another format under that name."""
ZSTD_MAX_WINDOW_BYTES = 1 << 31
"""What `zstd --long=31` writes; the library's own limit is lower."""

ZSTD_SLICE_BYTES = 1 << 14
"""Compressed bytes taken at a time, so that one step's text stays small."""

OnBytes = Callable[[int], None]
"""Told how many more bytes of the kept files were read."""


@dataclass(frozen=True)
class Document:
    """One text. `fragments` can be read once, before the next document is asked for."""

    item: CorpusItem
    position: int
    """Which document of its item it is, from 0."""
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
        fragments = _read_text(path, item, on_bytes or _ignore)
        if item.format == "jsonl":
            yield from _json_documents(path, item, fragments)
        else:
            yield Document(item, 0, fragments)


def _ignore(num_bytes: int) -> None:
    pass


def _read_text(path: Path, item: CorpusItem, on_bytes: OnBytes) -> Iterator[str]:
    """The decoded text of a file, block by block; no block is empty."""
    decoder = _decoder(path, item.encoding)
    offset = 0
    at_start = True
    for block in _read_blocks(path, item, on_bytes):
        text = _decode(decoder, block, path=path, item=item, offset=offset)
        offset += len(block)
        if at_start and text:
            text = text.removeprefix("\ufeff")
            at_start = False
        if text:
            yield text
    rest = _decode(decoder, b"", path=path, item=item, offset=offset, final=True)
    if rest:
        yield rest


def _read_blocks(path: Path, item: CorpusItem, on_bytes: OnBytes) -> Iterator[bytes]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise IntegrityError(
            f"{path}: this file of the corpus cannot be opened ({error.strerror}); "
            "run the stage that made it again"
        ) from None
    with raw:
        position = 0
        try:
            for block in _decompressed(raw, path, item.compression):
                now = raw.tell()
                on_bytes(now - position)
                position = now
                yield block
        except (OSError, EOFError, zlib.error) as error:
            raise PreflightError(
                f"{path} ({item.source}): cannot be read (compression: {item.compression}) near "
                f"byte {raw.tell():,}: {error}; the source is damaged or of another kind"
            ) from error


def _decompressed(raw: BinaryIO, path: Path, compression: str) -> Iterator[bytes]:
    if compression == "none":
        yield from iter(lambda: raw.read(BLOCK_BYTES), b"")
    elif compression == "gz":
        with gzip.GzipFile(fileobj=raw) as stream:
            yield from iter(lambda: stream.read(BLOCK_BYTES), b"")
    elif compression == "zst":
        yield from _unzstd(raw)
    else:
        raise PreflightError(f"{path}: unknown compression {compression!r}; none, gz, zst are read")


def _unzstd(raw: BinaryIO) -> Iterator[bytes]:
    import zstandard

    try:
        yield from _zstd_frames(
            raw, zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW_BYTES)
        )
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from error


def _zstd_frames(raw: BinaryIO, context: "ZstdDecompressor") -> Iterator[bytes]:
    # Frame by frame, because the library's stream reader takes a cut-off frame for the end.
    frame = None
    while compressed := raw.read(ZSTD_SLICE_BYTES):
        while compressed:
            if frame is None:
                frame = context.decompressobj()
            if block := frame.decompress(compressed):
                yield block
            compressed = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the last zstd frame is incomplete")


def _decoder(path: Path, encoding: str) -> codecs.IncrementalDecoder:
    try:
        # TextIOWrapper refuses codecs such as `hex` that make no text.
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        return codecs.getincrementaldecoder(encoding)(errors="strict")
    except (LookupError, ValueError):
        raise PreflightError(
            f"{path}: Python knows no text encoding {encoding!r}; "
            "write for example utf-8 or latin-1"
        ) from None


def _decode(
    decoder: codecs.IncrementalDecoder,
    block: bytes,
    *,
    path: Path,
    item: CorpusItem,
    offset: int,
    final: bool = False,
) -> str:
    held_back = len(decoder.getstate()[0])
    try:
        return decoder.decode(block, final)
    except UnicodeError as error:
        start = offset - held_back + getattr(error, "start", 0)
        packed = "" if item.compression == "none" else "decompressed "
        raise PreflightError(
            f"{path} ({item.source}): {packed}byte {start:,} is not {item.encoding} "
            f"({getattr(error, 'reason', error)}); state the file's own encoding on its source, "
            "or correct the file"
        ) from None


def _json_documents(path: Path, item: CorpusItem, fragments: Iterator[str]) -> Iterator[Document]:
    position = 0
    for number, line in enumerate(_lines(path, fragments), start=1):
        if not line.strip():
            continue
        text = _text_of(
            line, item.text_field or "text", place=f"{path} ({item.source}) line {number}"
        )
        yield Document(item, position, iter((text,) if text else ()))
        position += 1


def _lines(path: Path, fragments: Iterator[str]) -> Iterator[str]:
    # Not str.splitlines: JSON may hold U+2028 and its like unescaped.
    parts: list[str] = []
    num_chars = 0
    for fragment in fragments:
        first, *others = fragment.split("\n")
        parts.append(first)
        num_chars += len(first)
        if num_chars > MAX_LINE_CHARS:
            raise PreflightError(
                f"{path}: a line is longer than {MAX_LINE_CHARS:,} characters; in JSON lines each "
                "line is one document. Is it one large JSON array?"
            )
        if others:
            yield "".join(parts)
            yield from others[:-1]
            parts = [others[-1]]
            num_chars = len(others[-1])
    if parts:
        yield "".join(parts)


def _text_of(line: str, field: str, *, place: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PreflightError(f"{place}: not readable JSON ({error})") from None
    if not isinstance(value, dict):
        raise PreflightError(f"{place}: not a JSON object; the text is looked up by its key")
    if field not in value:
        keys = ", ".join(repr(key) for key in list(value)[:8]) or "no keys"
        raise PreflightError(
            f"{place}: no key {field!r}, it has {keys}; name the right one as text_field"
        )
    text = value[field]
    if not isinstance(text, str):
        raise PreflightError(f"{place}: {field!r} is {type(text).__name__}, not a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PreflightError(
            f"{place}: half of a surrogate pair, which is no character; correct that line"
        ) from None
    return text
