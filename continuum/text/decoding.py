"""Decodes the text of a file block by block, and decompresses it if needed.

Text is kept exactly as written: only a byte order mark at the start of a file is dropped, and line
ends are converted if asked. An invalid byte is an error with its offset; nothing is replaced.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from continuum.errors import IntegrityError, PreflightError
from continuum.runs.artifacts import CorpusItem

BLOCK_BYTES = 1 << 19
"""Bytes decoded at a time."""
ZSTD_MAX_WINDOW_BYTES = 1 << 31
"""The window of `zstd --long=31`; the library's default limit is lower."""
ZSTD_SLICE_BYTES = 1 << 14
"""Compressed bytes per step, which bounds the size of the decompressed text."""
BYTE_ORDER_MARK = "\ufeff"
_SWALLOWED = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-8-sig": (codecs.BOM_UTF8,),
}
"""Byte order marks that Python's decoder removes itself."""

OnBytes = Callable[[int], None]
"""Called with the number of further bytes read from the stored files."""


def read_blocks(path: Path, item: CorpusItem, on_bytes: OnBytes | None = None) -> Iterator[bytes]:
    """Read the decompressed bytes of a file.

    Raises:
        IntegrityError: the file is missing.
        PreflightError: it cannot be read or decompressed.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise IntegrityError(
            f"{path}: cannot open this file of the corpus ({error.strerror}); "
            "rerun the stage that made it"
        ) from None
    with raw:
        position = 0
        try:
            for block in _unpacked(raw, path, item.compression):
                now = raw.tell()
                if on_bytes is not None:
                    on_bytes(now - position)
                position = now
                yield block
        except (OSError, EOFError, zlib.error) as error:
            raise PreflightError(
                f"{path} ({item.source}): cannot read (compression: {item.compression}) near "
                f"byte {raw.tell():,}: {error}; the source is corrupt or has another format"
            ) from error


def _unpacked(raw: BinaryIO, path: Path, compression: str) -> Iterator[bytes]:
    if compression == "none":
        yield from iter(lambda: raw.read(BLOCK_BYTES), b"")
    elif compression == "gz":
        with gzip.GzipFile(fileobj=raw) as stream:
            yield from iter(lambda: stream.read(BLOCK_BYTES), b"")
    elif compression == "zst":
        yield from _unzstd(raw)
    else:
        raise PreflightError(
            f"{path}: unknown compression {compression!r}; supported: none, gz, zst"
        )


def _unzstd(raw: BinaryIO) -> Iterator[bytes]:
    # Frame by frame, because the library's stream reader accepts a truncated frame.
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW_BYTES)
    frame = None
    try:
        while compressed := raw.read(ZSTD_SLICE_BYTES):
            while compressed:
                frame = frame or context.decompressobj()
                if block := frame.decompress(compressed):
                    yield block
                compressed = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from error
    if frame is not None:
        raise EOFError("the last zstd frame is incomplete")


class TextReader:
    """Decodes the blocks of one file into non-empty fragments.

    Raises:
        PreflightError: the encoding is unknown, or a byte is invalid in it.
    """

    def __init__(self, path: Path, item: CorpusItem, blocks: Iterable[bytes]) -> None:
        self._path = path
        self._item = item
        self._blocks = blocks
        self._decoder = _decoder(path, item.encoding)
        self._swallowed = _SWALLOWED.get(codecs.lookup(item.encoding).name, ())
        self._num_read = 0
        self.start_byte = 0
        """Offset of the last fragment in the decompressed file."""

    def __iter__(self) -> Iterator[str]:
        at_start = True
        for block in self._blocks:
            text = self._decode(block)
            if at_start and block.startswith(self._swallowed):
                self.start_byte += self.num_bytes(BYTE_ORDER_MARK)
            if at_start and text:
                at_start = False
                if text.startswith(BYTE_ORDER_MARK):
                    self.start_byte += self.num_bytes(BYTE_ORDER_MARK)
                    text = text.removeprefix(BYTE_ORDER_MARK)
            if text:
                yield text
        if rest := self._decode(b"", final=True):
            yield rest

    def num_bytes(self, text: str) -> int:
        """Size of `text` in the file's encoding, without a byte order mark."""
        name = codecs.lookup(self._item.encoding).name
        if text.isascii() and name in ("utf-8", "ascii", "iso8859-1"):
            return len(text)
        codec = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}
        return len(text.encode(codec.get(name, name), "surrogatepass"))

    def _decode(self, block: bytes, *, final: bool = False) -> str:
        self.start_byte = self._num_read - len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(block, final)
        except UnicodeError as error:
            place = self.start_byte + getattr(error, "start", 0)
            packed = "" if self._item.compression == "none" else "decompressed "
            raise PreflightError(
                f"{self._path} ({self._item.source}): {packed}byte {place:,} is not valid "
                f"{self._item.encoding} ({getattr(error, 'reason', error)}); set the file's "
                "encoding on its source, or correct the file"
            ) from None
        self._num_read += len(block)
        return text


def _decoder(path: Path, encoding: str) -> codecs.IncrementalDecoder:
    try:
        # TextIOWrapper rejects codecs such as `hex` that are not text encodings.
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        return codecs.getincrementaldecoder(encoding)(errors="strict")
    except (LookupError, ValueError):
        raise PreflightError(
            f"{path}: unknown text encoding {encoding!r}; use for example utf-8 or latin-1"
        ) from None


class LineEnds:
    """Counts CRLF and lone CR, and converts them to newlines if asked."""

    def __init__(self, newlines: Literal["unix", "keep"]) -> None:
        self._converts = newlines == "unix"
        self._num_returns = 0
        self.num_crlf = 0

    @property
    def num_cr(self) -> int:
        """Number of lone CR."""
        return self._num_returns - self.num_crlf

    def read(self, fragments: Iterable[str]) -> Iterator[str]:
        """Convert the fragments of one text, of which two may share a CRLF; yields no empty
        ones."""
        held = ""
        for fragment in fragments:
            text = held + fragment if held else fragment
            held = "\r" if text.endswith("\r") else ""
            if text := text.removesuffix("\r"):
                yield self.read_text(text)
        if held:
            yield self.read_text(held)

    def read_text(self, text: str) -> str:
        """Convert a complete text."""
        if "\r" not in text:
            return text
        self._num_returns += text.count("\r")
        self.num_crlf += text.count("\r\n")
        return text.replace("\r\n", "\n").replace("\r", "\n") if self._converts else text
