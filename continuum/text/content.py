"""Whether the bytes of a file can be the text they are said to be: a look at its content.

Another kind of data is refused by its name, with what to do about it. Nothing is guessed in the
file's favour: a byte order mark must agree with the stated encoding, and NUL is in no text.
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
"""The longer first: UTF-32's in little-endian order begins as UTF-16's does."""
_UNORDERED = ("utf-16", "utf-32")
_SHARE_OF_NULS = 0.3
"""UTF-16 of Latin letters is one half NULs."""


def check_packing(path: Path, item: CorpusItem) -> None:
    """Look at a file as it lies on disk, before anything is unpacked.

    Raises:
        PreflightError: it is data of another kind, or not compressed as its name says.
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
    found = "take that suffix off its name if it is text; else it is damaged, so get it again"
    raise PreflightError(
        f"{_place(path, item)}: cannot be read (compression: {item.compression}) near byte 0: not "
        f"{packing} data{f' but {kind}' if kind is not None else f'; {found}'}"
    )


def check_start(path: Path, item: CorpusItem, head: bytes, *, is_whole: bool) -> None:
    """Look at how a file begins once it is unpacked.

    Args:
        is_whole: Whether there is no more than this beginning.

    Raises:
        PreflightError: it is not text, or not in the stated encoding.
    """
    place = _place(path, item)
    end, size = (head, len(head)) if is_whole else (b"", None)
    look = Look(head, end, size, item.encoding)
    kind = recognize(look)
    if kind is not None:
        if item.compression != "none" and kind in (GZIP, ZSTD):
            raise PreflightError(f"{place}: it is compressed twice; unpack it once")
        within = "" if item.compression == "none" else f" in {_PACKED[item.compression]} data"
        raise PreflightError(f"{place}: {kind.noun}{within}; {kind.advice}")
    if problem := _mark_problem(head, item.encoding):
        raise PreflightError(f"{place}: {problem}")
    if is_refusal(head):
        raise PreflightError(
            f"{place}: a storage server's error message (XML), not the file; get the file again"
        )
    if is_web_page(head) and not _is_markup(item):
        raise PreflightError(
            f"{place}: an HTML page, not {item.format}; a login or error page is often saved under "
            "the name of the file that was asked for, so get the file itself. To train on HTML, "
            "end its name in .html and state `format: txt`"
        )
    if b"\0" in head and not look.has_wide_encoding:
        guess = guess_wide_encoding(head)
        if guess is not None:
            raise PreflightError(
                f"{place}: {guess.upper()} without a byte order mark, not {item.encoding}; state "
                f"`encoding: {guess}`"
            )


def check_block(path: Path, item: CorpusItem, block: bytes, offset: int) -> None:
    """Look for NUL bytes, which also stand where a disk lost what was written.

    Raises:
        PreflightError: there is one, and text of the stated encoding has none.
    """
    at = block.find(0)
    if at >= 0 and not Look(b"", b"", 0, item.encoding).has_wide_encoding:
        raise _nul_error(path, item, offset + at)


def check_text(path: Path, item: CorpusItem, text: str, reader: TextReader) -> None:
    """Look for the NUL character in decoded text.

    Raises:
        PreflightError: there is one.
    """
    at = text.find("\0")
    if at >= 0:
        raise _nul_error(path, item, reader.start_byte + reader.num_bytes(text[:at]))


def guess_wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 of either byte order, if bytes that hold NULs are plausible as such."""
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
    return compression != "none"  # to be refused where it is unpacked


def _what_is_in(look: Look, kind: FileKind) -> str:
    """The kind; of packed data without its suffix, what is packed."""
    inside = look_inside(look)
    inner = recognize(inside) if inside is not None else None
    return f"{inner.noun} in {kind.noun}; {inner.advice}" if inner is not None else str(kind)


def _mark_problem(head: bytes, encoding: str) -> str | None:
    """Why the byte order mark, or its absence, does not go with the stated encoding."""
    stated = codecs.lookup(encoding).name
    found = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if found is None and stated in _UNORDERED and head:
        guess = guess_wide_encoding(head)
        order = f"`encoding: {guess}`" if guess else f"`encoding: {stated}-le` or {stated}-be"
        return f"there is no byte order mark, so {encoding} does not say the order; state {order}"
    if found is None or stated == found or (stated == "utf-8-sig" and found == "utf-8"):
        return None
    if stated == found.rpartition("-")[0]:
        return None
    return (
        f"it begins with the byte order mark of {found.upper()}, but the stated encoding is "
        f"{encoding}; state `encoding: {found if found == 'utf-8' else found[:6]}`"
    )


def _is_markup(item: CorpusItem) -> bool:
    name = PurePosixPath(item.file)
    name = name if compression_of(item.file) == "none" else name.with_suffix("")
    return name.suffix.lower() in MARKUP_SUFFIXES


def _nul_error(path: Path, item: CorpusItem, byte: int) -> PreflightError:
    packed = "" if item.compression == "none" else "decompressed "
    return PreflightError(
        f"{_place(path, item)}: {packed}byte {byte:,} is NUL, which is in no text: it is binary "
        "data, or damaged. Get the file again, state its encoding if that is UTF-16 or UTF-32, "
        r"or remove the NULs (`tr -d '\000' < in > out`)"
    )
