"""What a source file of a corpus is: its format, compression and encoding, and its item's record.

The format comes from the name or from the spec, the encoding only from the spec; neither is
guessed from the bytes.
"""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from continuum.artifacts import CorpusItem
from continuum.errors import PreflightError
from continuum.files import sha256_file

FORMATS = ("txt", "md", "py", "jsonl")
COMPRESSIONS = {".gz": "gz", ".zst": "zst"}
DEFAULT_TEXT_FIELD = "text"
MAX_NAME_LETTERS = 100
MAX_UTF8_BYTES = 3
"""What one byte of another encoding can become: a Euro sign is one byte in cp1252."""


@dataclass(frozen=True)
class Reading:
    """How a file is to be read, as its spec states it."""

    format: str | None
    encoding: str
    text_field: str | None

    def format_of(self, name: str) -> str:
        """The stated format, or what the name says.

        Raises:
            PreflightError: neither says it.
        """
        found = self.format or format_of(name)
        if found is None:
            raise PreflightError(
                f"{name}: its suffix says no format; state `format: txt`, md, py or jsonl"
            )
        return found

    def item(self, file: Path, *, source: str, name: str) -> CorpusItem:
        """The record of a file in the corpus' folder that was called `name`."""
        format_ = self.format_of(name)
        text_field = self.text_field or DEFAULT_TEXT_FIELD
        return CorpusItem(
            file=file.name,
            source=source,
            size_bytes=file.stat().st_size,
            sha256=sha256_file(file),
            format=format_,
            compression=compression_of(name),
            encoding=self.encoding,
            text_field=text_field if format_ == "jsonl" else None,
        )

    def max_text_bytes(self, name: str, size_bytes: int) -> int | None:
        """The most UTF-8 bytes its text can have; None when it is compressed."""
        if compression_of(name) != "none":
            return None
        is_compact = codecs.lookup(self.encoding).name in {"utf-8", "ascii", "utf-8-sig"}
        return size_bytes if is_compact else MAX_UTF8_BYTES * size_bytes


def compression_of(name: str) -> str:
    """`gz`, `zst` or `none`, by the name's last suffix."""
    return COMPRESSIONS.get(PurePosixPath(name).suffix.lower(), "none")


def format_of(name: str) -> str | None:
    """The format a name says, a compression's suffix aside; None when it says none."""
    path = PurePosixPath(name)
    if compression_of(name) != "none":
        path = path.with_suffix("")
    suffix = path.suffix.lower().removeprefix(".")
    return suffix if suffix in FORMATS else None


def is_text_encoding(name: str) -> bool:
    """Whether Python knows `name` as an encoding of text (`rot13` and `base64` are none)."""
    try:
        return bool(getattr(codecs.lookup(name), "_is_text_encoding", True))
    except (LookupError, ValueError):
        return False


def kept_name(number: int, name: str) -> str:
    """A file name that is safe and unique in a corpus, and in the corpus' order."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", PurePosixPath(name).name) or "file"
    return f"{number:05d}-{safe[-MAX_NAME_LETTERS:]}"
