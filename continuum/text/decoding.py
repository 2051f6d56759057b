"""The decoded text of a file, block by block, with the place of each block in its bytes.

Text arrives exactly as written: only a byte order mark at the start of a file is dropped. A byte
outside the stated encoding is an error that says where it is; nothing is replaced.
"""

import codecs
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from continuum.artifacts import CorpusItem
from continuum.errors import PreflightError

BYTE_ORDER_MARK = "\ufeff"
_SWALLOWED = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-8-sig": (codecs.BOM_UTF8,),
}
"""Marks that Python's decoder takes away itself."""


class TextReader:
    """Decodes the blocks of one file; no fragment is empty.

    Raises:
        PreflightError: Python does not know the encoding, or a byte is outside it.
    """

    def __init__(self, path: Path, item: CorpusItem, blocks: Iterable[bytes]) -> None:
        self._path = path
        self._item = item
        self._blocks = blocks
        self._decoder = _decoder(path, item.encoding)
        self._swallowed = _SWALLOWED.get(codecs.lookup(item.encoding).name, ())
        self._num_read = 0
        self.start_byte = 0
        """Where the fragment that came last begins in the unpacked file."""

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
        rest = self._decode(b"", final=True)
        if rest:
            yield rest

    def num_bytes(self, text: str) -> int:
        """The bytes of `text` in the file's encoding."""
        return encoded_bytes(text, self._item.encoding)

    def _decode(self, block: bytes, *, final: bool = False) -> str:
        self.start_byte = self._num_read - len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(block, final)
        except UnicodeError as error:
            place = self.start_byte + getattr(error, "start", 0)
            packed = "" if self._item.compression == "none" else "decompressed "
            raise PreflightError(
                f"{self._path} ({self._item.source}): {packed}byte {place:,} is not "
                f"{self._item.encoding} ({getattr(error, 'reason', error)}); state the file's own "
                "encoding on its source, or correct the file"
            ) from None
        self._num_read += len(block)
        return text


def encoded_bytes(text: str, encoding: str) -> int:
    """The bytes of `text` in an encoding, without a byte order mark at its start."""
    if text.isascii() and codecs.lookup(encoding).name in ("utf-8", "ascii", "iso8859-1"):
        return len(text)
    codec = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}
    return len(text.encode(codec.get(codecs.lookup(encoding).name, encoding), "surrogatepass"))


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
