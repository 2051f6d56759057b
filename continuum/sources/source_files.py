"""Selects the local files of a corpus, and decides how each is read.

The format comes from the name or the spec, the encoding only from the spec; neither is guessed from
the bytes. In a folder without a pattern, files that describe data (`README.md`, `LICENSE`) and
files whose suffix says that they are not text (images, programs) are skipped and counted. The rest
must have one format, because a folder of several does not say which are its texts.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from continuum.errors import PreflightError, Problem
from continuum.runs.artifacts import CorpusItem
from continuum.runs.files import sha256_file
from continuum.sources.file_kinds import (
    MARKUP_SUFFIXES,
    TEXT_KINDS,
    WITHOUT_TEXT,
    is_web_page,
    kind_of_suffix,
    look_at,
    look_inside,
    recognize,
)
from continuum.sources.globs import FoundFiles, LocalFile, expand, label_of
from continuum.sources.local_files import describe_files

FORMATS = ("txt", "md", "py", "jsonl")
COMPRESSIONS = {".gz": "gz", ".zst": "zst"}
DEFAULT_TEXT_FIELD = "text"
UNIX_NEWLINES = "line ends CRLF and CR are read as newlines, unless `newlines: keep`"
"""What changed in version 2 of the kinds that make a corpus."""
MAX_NAME_LETTERS = 100
MAX_UTF8_BYTES = 3
"""UTF-8 bytes per byte of another encoding: the Euro sign is one byte in cp1252."""

COMPANIONS = "README/LICENSE files"
_COMPANION = re.compile(
    r"(readme|licen[cs]es?|copying|notices?|changelogs?|changes|citations?)([-_.].*|\d*)?", re.I
)
_METADATA = re.compile(r"dataset_infos?\.json|\.gitattributes", re.I)
_JSON_LINES = re.compile(r"\.(json|jsonl|ndjson|jl)")
_OTHER_TEXT = re.compile(r"\.(ndjson|jl|[ct]sv|html?|xml|ya?ml|toml|ini|ipynb|bin)")
"""Suffixes of other formats, besides those of `FileKind`s."""


@dataclass(frozen=True)
class Reading:
    """How to read a file, as stated in the spec."""

    format: str | None
    encoding: str
    text_field: str | None
    missing: Literal["error", "skip"] = "error"
    newlines: Literal["unix", "keep"] = "unix"

    def problems(self) -> Iterator[Problem]:
        """Conflicts between fields, with their paths in the spec."""
        if self.missing != "error" and self.format not in {None, "jsonl"}:
            yield Problem(("missing",), f"`missing` only applies to jsonl, not to {self.format}")
        if not _is_text_encoding(self.encoding):
            message = f"unknown text encoding {self.encoding!r}"
            yield Problem(("encoding",), message, "utf-8, latin-1, cp1252 …")

    def format_of(self, name: str, path: Path | None = None) -> str:
        """The stated format, or that of the name.

        Args:
            path: The file, if it is local, for a better error.

        Raises:
            PreflightError: the format is unknown.
        """
        found = self.format or format_of(name)
        if found is None:
            raise PreflightError(f"{name}: {_unknown_format(name, path, self.encoding)}")
        return found

    def item(self, file: Path, *, source: str, name: str) -> CorpusItem:
        """The record of a file in the corpus' folder, originally called `name`."""
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


@dataclass(frozen=True)
class TextFiles:
    """The files that one path or pattern of a spec selects."""

    found: FoundFiles
    reading: Reading
    label: str = ""
    """Their name in the spec, if it has several sources."""

    def checked(self) -> "TextFiles":
        """Check that every file has a known format.

        Raises:
            PreflightError: the format of a file is unknown.
        """
        for file in self.found.files:
            self.reading.format_of(file.name, file.path)
        return self

    @property
    def taken(self) -> Counter[str]:
        """Number of selected files by suffix."""
        return Counter(label_of(file.name) for file in self.found.files)

    @property
    def left(self) -> Counter[str]:
        return Counter(self.found.left)

    @property
    def note(self) -> str:
        """A summary: `12 .txt taken; skipped: 5 .pyc, 1 .png`."""
        beside = f"; skipped: {describe_files(self.left)}" if self.left else ""
        return self._labelled(f"{describe_files(self.taken)} taken{beside}")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Warnings about files whose suffix conflicts with `format`."""
        stated = self.reading.format
        if stated is None:
            return ()
        others = {label: n for label, n in self.taken.items() if _is_of_other_kind(label, stated)}
        how = "one JSON object per line" if stated == "jsonl" else "each file is one document"
        message = self._labelled(
            f"`format: {stated}` overrides the suffix of {describe_files(others)} ({how})"
        )
        warning = Problem(("format",), message, severity="warning", needs="folder")
        return (warning,) if others else ()

    @property
    def max_text_bytes(self) -> int | None:
        """Maximum number of UTF-8 bytes of their texts; None if one is compressed."""
        encoding = self.reading.encoding
        return sum_known(
            max_text_bytes(file.path.stat().st_size, compression_of(file.name), encoding)
            for file in self.found.files
        )

    def _labelled(self, text: str) -> str:
        return f"{self.label}: {text}" if self.label else text


def max_text_bytes(size_bytes: int, compression: str, encoding: str) -> int | None:
    """Maximum number of UTF-8 bytes of a file's text; None if it is compressed."""
    if compression != "none":
        return None
    is_compact = codecs.lookup(encoding).name in {"utf-8", "ascii", "utf-8-sig"}
    return size_bytes if is_compact else MAX_UTF8_BYTES * size_bytes


def sum_known(sizes: Iterable[int | None]) -> int | None:
    """The sum; None if one is unknown."""
    total = 0
    for size in sizes:
        if size is None:
            return None
        total += size
    return total


def choose_texts(
    folder: str, root: Path, stated: str | None, *, excluded: Path | None = None
) -> FoundFiles:
    """The texts below a folder, without hidden and generated files.

    Args:
        folder: Its name in the spec.
        stated: The `format` in the spec.
        excluded: A folder that is not searched.

    Raises:
        PreflightError: there are none, they have several or unknown formats, or cannot be read.
    """
    found = expand("**", root, excluded=excluded, counts_hidden=True)
    taken: list[LocalFile] = []
    left = Counter(found.left)
    for file in found.files:
        last = PurePosixPath(file.name).name
        if _COMPANION.fullmatch(last):
            left[COMPANIONS] += 1
        elif _METADATA.fullmatch(last):
            left[last.lower()] += 1
        elif kind_of_suffix(last) in WITHOUT_TEXT:
            left[label_of(last)] += 1
        else:
            taken.append(file)
    if not taken:
        why = f"skipped: {describe_files(left)}" if left else "it is empty"
        raise PreflightError(
            f"{folder}: no texts found in this folder ({why}); "
            f"select files by a pattern, for example `path: {folder}/**/*.txt`"
        )
    _check_one_format(folder, Counter(label_of(file.name) for file in taken), stated)
    return FoundFiles(tuple(taken), left)


def compression_of(name: str) -> str:
    """`gz`, `zst` or `none`, by the last suffix of the name."""
    return COMPRESSIONS.get(PurePosixPath(name).suffix.lower(), "none")


def format_of(name: str) -> str | None:
    """The format of a name, ignoring a compression suffix; None if unknown."""
    path = PurePosixPath(name)
    if compression_of(name) != "none":
        path = path.with_suffix("")
    suffix = path.suffix.lower().removeprefix(".")
    return suffix if suffix in FORMATS else None


def no_format(name: str, where: str = "") -> tuple[str, str]:
    """The error of a name without a known format, and what to do.

    Args:
        where: Where to set a format.
    """
    bare = name.removesuffix(PurePosixPath(name).suffix) if compression_of(name) != "none" else name
    kind = kind_of_suffix(bare)
    if kind is not None:
        return f"its suffix is that of {kind.noun}", kind.advice
    return "its suffix has no known format", f"set `format: txt`, md, py or jsonl{where}"


def _unknown_format(name: str, path: Path | None, encoding: str) -> str:
    """The same in one sentence; the content of a local file takes precedence over its name."""
    problem, advice = no_format(name)
    try:
        look = look_at(path, encoding) if path is not None else None
    except OSError:  # reported by the reader
        look = None
    if look is not None and compression_of(name) != "none":
        look = look_inside(look)
    if look is None:
        return f"{problem}; {advice}"
    if kind := recognize(look):
        return f"it is {kind}"
    if look.is_binary:
        return f"{problem}, and it is binary data, not {encoding} text; remove it"
    if is_web_page(look.head) and PurePosixPath(name).suffix.lower() not in MARKUP_SUFFIXES:
        return (
            "it is an HTML page; download the file itself, or use the suffix .html to train on HTML"
        )
    if kind_of_suffix(name) not in TEXT_KINDS:
        problem, advice = no_format("")
    return f"{problem}; {advice}"


def _is_text_encoding(name: str) -> bool:
    """True if `name` is a text encoding in Python (`rot13` and `base64` are not)."""
    try:
        return bool(getattr(codecs.lookup(name), "_is_text_encoding", True))
    except (LookupError, ValueError):
        return False


def kept_name(number: int, name: str) -> str:
    """A safe, unique file name that sorts in the order of the corpus."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", PurePosixPath(name).name) or "file"
    return f"{number:05d}-{safe[-MAX_NAME_LETTERS:]}"


def _check_one_format(folder: str, counts: Counter[str], stated: str | None) -> None:
    formats = {label: _format_of(label) for label, _ in counts.most_common()}
    known = [label for label, found in formats.items() if found is not None]
    examples = " or ".join(f"`path: {folder}/**/*{label}`" for label in known[:2] or [".txt"])
    conflict = stated is not None and any(_conflicts(label, stated) for label in counts)
    if conflict or len({formats[label] for label in known}) > 1:
        stated_format = f", and `format: {stated}` is set" if stated is not None else ""
        raise PreflightError(
            f"{folder}: this folder contains {describe_files(counts)}{stated_format}; select "
            "the files of "
            f"one format by a pattern, for example {examples}"
        )
    if stated is None and len(known) < len(formats):
        unknown = {label: number for label, number in counts.items() if label not in known}
        kind = next((kind for it in unknown if (kind := kind_of_suffix(f"x{it}"))), None)
        if kind is not None and not known:
            raise PreflightError(
                f"{folder}: no texts in this folder, which contains {describe_files(counts)}: "
                f"{kind}"
            )
        raise PreflightError(
            f"{folder}: unknown format of {describe_files(unknown)} "
            f"(the folder contains {describe_files(counts)}); set `format: txt`, md, py or jsonl, "
            f"or select files by a pattern, for example {examples}"
        )


def _format_of(label: str) -> str | None:
    return format_of(f"x{label}") if label.startswith(".") else None


def _conflicts(label: str, stated: str) -> bool:
    own, suffix = _format_of(label), _plain_suffix(label)
    if own is not None or (stated == "jsonl" and _JSON_LINES.fullmatch(suffix)):
        return own not in {None, stated}
    return _OTHER_TEXT.fullmatch(suffix) is not None or kind_of_suffix(f"x{suffix}") is not None


def _is_of_other_kind(label: str, stated: str) -> bool:
    """True if text is read as JSON Lines, or the reverse."""
    is_lines = _JSON_LINES.fullmatch(_plain_suffix(label)) is not None
    return is_lines != (stated == "jsonl") and (is_lines or _format_of(label) is not None)


def _plain_suffix(label: str) -> str:
    return re.sub(r"(.)\.(gz|zst|xz|bz2)$", r"\1", label)
