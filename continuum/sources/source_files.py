"""What a source file of a corpus is: its format, compression and encoding, and its item's record.

The format comes from the name or from the spec, the encoding only from the spec; neither is
guessed from the bytes.
"""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from continuum.artifacts import CorpusItem
from continuum.errors import PreflightError
from continuum.files import sha256_file
from continuum.sources.file_kinds import (
    MARKUP_SUFFIXES,
    TEXT_KINDS,
    is_web_page,
    kind_of_suffix,
    recognize,
)
from continuum.sources.looks import look_at, look_inside

FORMATS = ("txt", "md", "py", "jsonl")
COMPRESSIONS = {".gz": "gz", ".zst": "zst"}
DEFAULT_TEXT_FIELD = "text"
UNIX_NEWLINES = "line ends CRLF and CR are read as newlines, unless `newlines: keep`"
"""What version 2 of the kinds that make a corpus do otherwise."""
MAX_NAME_LETTERS = 100
MAX_UTF8_BYTES = 3
"""What one byte of another encoding can become: a Euro sign is one byte in cp1252."""


@dataclass(frozen=True)
class Reading:
    """How a file is to be read, as its spec states it."""

    format: str | None
    encoding: str
    text_field: str | None
    missing: Literal["error", "skip"] = "error"
    newlines: Literal["unix", "keep"] = "unix"

    def format_of(self, name: str, path: Path | None = None) -> str:
        """The stated format, or what the name says.

        Args:
            path: The file, if it is at hand, to say what it is where its name does not.

        Raises:
            PreflightError: neither says it.
        """
        found = self.format or format_of(name)
        if found is None:
            raise PreflightError(f"{name}: {_unknown_format(name, path, self.encoding)}")
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
            missing=self.missing if format_ == "jsonl" else "error",
            newlines=self.newlines,
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


def no_format(name: str, where: str = "") -> tuple[str, str]:
    """What is wrong with a name that says no format, and what to do.

    Args:
        where: Where a format is to be stated.
    """
    bare = name.removesuffix(PurePosixPath(name).suffix) if compression_of(name) != "none" else name
    kind = kind_of_suffix(bare)
    if kind is not None:
        return f"its suffix says {kind.noun}", kind.advice
    return "its suffix says no format", f"state `format: txt`, md, py or jsonl{where}"


def _unknown_format(name: str, path: Path | None, encoding: str) -> str:
    """The same in a sentence; of a file that is at hand, its content counts more than its name."""
    problem, advice = no_format(name)
    try:
        look = look_at(path, encoding) if path is not None else None
    except OSError:  # to be told by who reads it
        look = None
    if look is not None and compression_of(name) != "none":
        look = look_inside(look)
    if look is None:
        return f"{problem}; {advice}"
    if kind := recognize(look):
        return f"it is {kind}"
    if look.is_binary:
        return f"{problem}, and it is not text in {encoding} but binary data; take it out"
    if is_web_page(look.head) and PurePosixPath(name).suffix.lower() not in MARKUP_SUFFIXES:
        return "it is an HTML page; get the file itself, or end its name in .html to train on HTML"
    if kind_of_suffix(name) not in TEXT_KINDS:
        problem, advice = no_format("")
    return f"{problem}; {advice}"


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
