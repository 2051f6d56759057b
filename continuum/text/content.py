"""Checks whether the bytes of a file can be text in the stated format and encoding.

Other kinds of data are an error that names the kind and what to do. Nothing is guessed: a byte
order mark must agree with the stated encoding, and text contains no NUL.
"""

import codecs
import unicodedata
from pathlib import Path, PurePosixPath

from continuum.errors import PreflightError
from continuum.runs.artifacts import CorpusItem
from continuum.sources.file_kinds import (
    GZIP,
    MARKUP_SUFFIXES,
    ZSTD,
    FileKind,
    Look,
    is_refusal,
    is_web_page,
    look_at,
    look_inside,
    recognize,
)
from continuum.sources.source_files import compression_of
from continuum.text.decoding import TextReader

GUESS_BYTES = 1 << 12
_PACKED = {"gz": "gzip", "zst": "zstd"}
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
"""Longest first: the little-endian mark of UTF-32 starts like that of UTF-16."""
_UNORDERED = ("utf-16", "utf-32")
_SHARE_OF_NULS = 0.3
"""Half of the bytes of Latin letters in UTF-16 are NUL."""


def check_packing(path: Path, item: CorpusItem) -> None:
    """Check a file before decompression.

    Raises:
        PreflightError: it is another kind of data, or not compressed as its name says.
    """
    look = look_at(path, item.encoding)
    if not look.head or _is_packed_as_named(look.head, item.compression):
        return
    kind = recognize(look)
    if item.compression == "none":
        if kind is not None:
            raise PreflightError(f"{_place(path, item)}: {_what_is_in(look, kind)}")
        return
    packing = _PACKED.get(item.compression, item.compression)
    found = "remove that suffix if it is text; otherwise the file is corrupt: download it again"
    raise PreflightError(
        f"{_place(path, item)}: cannot read (compression: {item.compression}) near byte 0: not "
        f"{packing} data{f' but {kind}' if kind is not None else f'; {found}'}"
    )


def check_start(path: Path, item: CorpusItem, head: bytes, *, is_whole: bool) -> None:
    """Check the decompressed start of a file.

    Args:
        is_whole: Whether `head` is the complete file.

    Raises:
        PreflightError: it is not text, or not in the stated encoding.
    """
    place = _place(path, item)
    end, size = (head, len(head)) if is_whole else (b"", None)
    look = Look(head, end, size, item.encoding)
    kind = recognize(look)
    if kind is not None:
        if item.compression != "none" and kind in (GZIP, ZSTD):
            raise PreflightError(f"{place}: the file is compressed twice; decompress it once")
        within = "" if item.compression == "none" else f" in {_PACKED[item.compression]} data"
        raise PreflightError(f"{place}: {kind.noun}{within}; {kind.advice}")
    if problem := _mark_problem(head, item.encoding):
        raise PreflightError(f"{place}: {problem}")
    if is_refusal(head):
        raise PreflightError(
            f"{place}: a storage server's error message (XML), not the file; download it again"
        )
    if is_web_page(head) and not _is_markup(item):
        raise PreflightError(
            f"{place}: an HTML page, not {item.format}; it may be a login or error page saved "
            "under "
            "the file's name: download the file itself. To train on HTML, use the suffix .html and "
            "set `format: txt`"
        )
    if b"\0" in head and not look.has_wide_encoding:
        guess = guess_wide_encoding(head)
        if guess is not None:
            raise PreflightError(
                f"{place}: {guess.upper()} without a byte order mark, not {item.encoding}; set "
                f"`encoding: {guess}`"
            )


def check_block(path: Path, item: CorpusItem, block: bytes, offset: int) -> None:
    """Check for NUL bytes, which also appear where a disk lost data.

    Raises:
        PreflightError: there is one, and the stated encoding has none.
    """
    at = block.find(0)
    if at >= 0 and not Look(b"", b"", 0, item.encoding).has_wide_encoding:
        raise _nul_error(path, item, offset + at)


def check_text(path: Path, item: CorpusItem, text: str, reader: TextReader) -> None:
    """Check decoded text for the NUL character.

    Raises:
        PreflightError: there is one.
    """
    at = text.find("\0")
    if at >= 0:
        raise _nul_error(path, item, reader.start_byte + reader.num_bytes(text[:at]))


def guess_wide_encoding(head: bytes) -> str | None:
    """Guess UTF-16 or UTF-32 and its byte order, if bytes with NULs are plausible as such."""
    start = head[:GUESS_BYTES]
    if start.count(0) < _SHARE_OF_NULS * len(start) and _decoded(start, "utf-8") is not None:
        return None
    found: list[tuple[float, str]] = []
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        text = _decoded(start, encoding)
        if text and all(map(_is_plausible, text)):
            found.append((sum(char < "\u0250" for char in text) / len(text), encoding))
    return max(found)[1] if found else None


def _decoded(start: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(start)
    except UnicodeError:
        return None


def _is_plausible(char: str) -> bool:
    return char in "\t\n\r\f\ufeff" or unicodedata.category(char) not in ("Cc", "Cn", "Co", "Cs")


def _place(path: Path, item: CorpusItem) -> str:
    return f"{path} ({item.source})"


def _is_packed_as_named(head: bytes, compression: str) -> bool:
    if compression == "gz":
        return head.startswith(b"\x1f\x8b")
    if compression == "zst":
        is_skippable = b"\x50" <= head[:1] <= b"\x5f" and head[1:4] == b"\x2a\x4d\x18"
        return head.startswith(b"\x28\xb5\x2f\xfd") or is_skippable
    return compression != "none"  # an error at decompression


def _what_is_in(look: Look, kind: FileKind) -> str:
    inside = look_inside(look)
    inner = recognize(inside) if inside is not None else None
    return f"{inner.noun} in {kind.noun}; {inner.advice}" if inner is not None else str(kind)


def _mark_problem(head: bytes, encoding: str) -> str | None:
    """The conflict between the byte order mark, or its absence, and the stated encoding."""
    stated = codecs.lookup(encoding).name
    found = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if found is None and stated in _UNORDERED and head:
        guess = guess_wide_encoding(head)
        order = f"`encoding: {guess}`" if guess else f"`encoding: {stated}-le` or {stated}-be"
        return f"{encoding} needs a byte order mark, and there is none; set {order}"
    if found is None or stated == found or (stated == "utf-8-sig" and found == "utf-8"):
        return None
    if stated == found.rpartition("-")[0]:
        return None
    return (
        f"it starts with the byte order mark of {found.upper()}, but the stated encoding is "
        f"{encoding}; set `encoding: {found if found == 'utf-8' else found[:6]}`"
    )


def _is_markup(item: CorpusItem) -> bool:
    name = PurePosixPath(item.file)
    name = name if compression_of(item.file) == "none" else name.with_suffix("")
    return name.suffix.lower() in MARKUP_SUFFIXES


def _nul_error(path: Path, item: CorpusItem, byte: int) -> PreflightError:
    packed = "" if item.compression == "none" else "decompressed "
    return PreflightError(
        f"{_place(path, item)}: {packed}byte {byte:,} is NUL: the file is binary or corrupt. "
        "Download it again, set its encoding if that is UTF-16 or UTF-32, "
        r"or remove the NULs (`tr -d '\000' < in > out`)"
    )
