"""The beginning and the end of a file, by which its kind is known."""

import codecs
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LOOK_BYTES = 1 << 16
"""Looked at from each end of a file."""


@dataclass(frozen=True)
class Look:
    """The two ends of a file; they overlap in a small one."""

    head: bytes
    tail: bytes
    size_bytes: int | None
    """None while it is not known, as of what is being unpacked; then there is no tail either."""
    encoding: str = "utf-8"
    """What its text is said to be in."""

    @cached_property
    def is_binary(self) -> bool:
        """True if the beginning cannot be text in the stated encoding."""
        if self.has_wide_encoding:
            return False
        try:
            codecs.getincrementaldecoder(self.encoding)().decode(self.head)
        except UnicodeError:
            return True
        return b"\0" in self.head

    @property
    def has_wide_encoding(self) -> bool:
        """True if ordinary text has NUL bytes in the stated encoding."""
        return codecs.lookup(self.encoding).name.startswith(("utf-16", "utf-32"))


def look_at(path: Path, encoding: str = "utf-8") -> Look:
    """The two ends of a file on disk."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(LOOK_BYTES)
        file.seek(max(0, size - LOOK_BYTES))
        return Look(head, file.read(LOOK_BYTES), size, encoding)


def look_inside(look: Look) -> Look | None:
    """What gzip or zstd data begins with when it is unpacked; None if it is neither or damaged."""
    if look.head.startswith(b"\x1f\x8b"):
        try:
            inner = zlib.decompressobj(wbits=31).decompress(look.head, LOOK_BYTES)
        except zlib.error:
            return None
    elif look.head.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        try:
            inner = zstandard.ZstdDecompressor().decompressobj().decompress(look.head)[:LOOK_BYTES]
        except zstandard.ZstdError:
            return None
    else:
        return None
    return Look(inner, b"", None, look.encoding)
