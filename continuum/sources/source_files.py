"""The local files of a corpus: which of a folder are its texts, and how each is read.

The format comes from the name or from the spec, the encoding only from the spec; neither is guessed
from the bytes. Of a folder that is named without a pattern, what stands beside data to describe it
(`README.md`, `LICENSE`) and what is no text by its suffix (pictures, programs) is left and counted.
The rest must be of one format: a folder that mixes them does not say what its texts are.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from continuum.errors import PreflightError
from continuum.problems import Problem
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
"""What version 2 of the kinds that make a corpus do otherwise."""
MAX_NAME_LETTERS = 100
MAX_UTF8_BYTES = 3
"""What one byte of another encoding can become: a Euro sign is one byte in cp1252."""

COMPANIONS = "README/LICENSE files"
_COMPANION = re.compile(
    r"(readme|licen[cs]es?|copying|notices?|changelogs?|changes|citations?)([-_.].*|\d*)?", re.I
)
_METADATA = re.compile(r"dataset_infos?\.json|\.gitattributes", re.I)
_JSON_LINES = re.compile(r"\.(json|jsonl|ndjson|jl)")
_OTHER_TEXT = re.compile(r"\.(ndjson|jl|[ct]sv|html?|xml|ya?ml|toml|ini|ipynb|bin)")
"""Suffixes that say what a file is, and that it is none of ours; more are of `FileKind`s."""


@dataclass(frozen=True)
class Reading:
    """How a file is to be read, as its spec states it."""

    format: str | None
    encoding: str
    text_field: str | None
    missing: Literal["error", "skip"] = "error"
    newlines: Literal["unix", "keep"] = "unix"

    def problems(self) -> Iterator[Problem]:
        """What does not go together, with paths as in the spec."""
        if self.missing != "error" and self.format not in {None, "jsonl"}:
            yield Problem(
                ("missing",), f"only a line of jsonl can lack its text, not {self.format}"
            )
        if not _is_text_encoding(self.encoding):
            message = f"Python knows no encoding {self.encoding!r}"
            yield Problem(("encoding",), message, "utf-8, latin-1, cp1252 …")

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


@dataclass(frozen=True)
class TextFiles:
    """The files that one path or pattern of a spec takes into a corpus."""

    found: FoundFiles
    reading: Reading
    label: str = ""
    """What the spec calls them, where it has several."""

    def checked(self) -> "TextFiles":
        """These files, each of a known format.

        Raises:
            PreflightError: neither its name nor the spec says it.
        """
        for file in self.found.files:
            self.reading.format_of(file.name, file.path)
        return self

    @property
    def taken(self) -> Counter[str]:
        """How many files there are of each suffix."""
        return Counter(label_of(file.name) for file in self.found.files)

    @property
    def left(self) -> Counter[str]:
        return Counter(self.found.left)

    @property
    def note(self) -> str:
        """What is taken and left, in words: `12 .txt taken; left: 5 .pyc, 1 .png`."""
        beside = f"; left: {describe_files(self.left)}" if self.left else ""
        return self._labelled(f"{describe_files(self.taken)} taken{beside}")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is read otherwise than its suffix says, since a pattern and `format` ask for it."""
        stated = self.reading.format
        if stated is None:
            return ()
        others = {label: n for label, n in self.taken.items() if _is_of_other_kind(label, stated)}
        how = "a JSON object on each line" if stated == "jsonl" else "each file is one document"
        said = f"read as `format: {stated}` says, not as their suffix"
        message = self._labelled(f"{said}: {describe_files(others)} ({how})")
        warning = Problem(("format",), message, severity="warning", needs="folder")
        return (warning,) if others else ()

    @property
    def max_text_bytes(self) -> int | None:
        """The most UTF-8 bytes their texts can have; None when one is compressed."""
        sizes = [
            self.reading.max_text_bytes(file.name, file.path.stat().st_size)
            for file in self.found.files
        ]
        return sum_known(sizes)

    def _labelled(self, text: str) -> str:
        return f"{self.label}: {text}" if self.label else text


def sum_known(sizes: Iterable[int | None]) -> int | None:
    """The sum; None where one is not known."""
    total = 0
    for size in sizes:
        if size is None:
            return None
        total += size
    return total


def choose_texts(
    folder: str, root: Path, stated: str | None, *, excluded: Path | None = None
) -> FoundFiles:
    """The texts below a folder, but hidden ones and those that programs generate.

    Args:
        folder: As the spec names it.
        stated: The spec's `format`.
        excluded: A folder that is not entered.

    Raises:
        PreflightError: there is none, they are of several formats or of none, or cannot be read.
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
        why = f"left: {describe_files(left)}" if left else "it is empty"
        raise PreflightError(
            f"{folder}: there is no text to take in this folder ({why}); "
            f"a pattern takes what it names, as in `path: {folder}/**/*.txt`"
        )
    _check_one_format(folder, Counter(label_of(file.name) for file in taken), stated)
    return FoundFiles(tuple(taken), left)


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


def _is_text_encoding(name: str) -> bool:
    """Whether Python knows `name` as an encoding of text (`rot13` and `base64` are none)."""
    try:
        return bool(getattr(codecs.lookup(name), "_is_text_encoding", True))
    except (LookupError, ValueError):
        return False


def kept_name(number: int, name: str) -> str:
    """A file name that is safe and unique in a corpus, and in the corpus' order."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", PurePosixPath(name).name) or "file"
    return f"{number:05d}-{safe[-MAX_NAME_LETTERS:]}"


def _check_one_format(folder: str, counts: Counter[str], stated: str | None) -> None:
    formats = {label: _format_of(label) for label, _ in counts.most_common()}
    known = [label for label, found in formats.items() if found is not None]
    examples = " or ".join(f"`path: {folder}/**/*{label}`" for label in known[:2] or [".txt"])
    conflict = stated is not None and any(_conflicts(label, stated) for label in counts)
    if conflict or len({formats[label] for label in known}) > 1:
        said = f" and `format: {stated}` is stated" if stated is not None else ""
        raise PreflightError(
            f"{folder}: this folder holds {describe_files(counts)}{said}; name the files of one "
            f"format by a pattern, as in {examples}"
        )
    if stated is None and len(known) < len(formats):
        unknown = {label: number for label, number in counts.items() if label not in known}
        raise PreflightError(
            f"{folder}: the suffix of {describe_files(unknown)} says no format "
            f"(the folder holds {describe_files(counts)}); state `format: txt`, md, py or jsonl, "
            f"or name the files by a pattern, as in {examples}"
        )


def _format_of(label: str) -> str | None:
    return format_of(f"x{label}") if label.startswith(".") else None


def _conflicts(label: str, stated: str) -> bool:
    """True if a suffix says another format than the stated one."""
    own, suffix = _format_of(label), _plain_suffix(label)
    if own is not None or (stated == "jsonl" and _JSON_LINES.fullmatch(suffix)):
        return own not in {None, stated}
    return _OTHER_TEXT.fullmatch(suffix) is not None or kind_of_suffix(f"x{suffix}") is not None


def _is_of_other_kind(label: str, stated: str) -> bool:
    """True if it matters: prose that is read as JSON lines, or the reverse."""
    is_lines = _JSON_LINES.fullmatch(_plain_suffix(label)) is not None
    return is_lines != (stated == "jsonl") and (is_lines or _format_of(label) is not None)


def _plain_suffix(label: str) -> str:
    return re.sub(r"(.)\.(gz|zst|xz|bz2)$", r"\1", label)
