"""Which files of a folder are the texts of a corpus, when a spec names the folder and no pattern.

What stands beside data to describe it (`README.md`, `LICENSE`) and what is no text by its suffix
(pictures, programs) is left and counted. The rest must be of one format: a folder that mixes them
does not say what its texts are, and a pattern does.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from continuum.errors import PreflightError
from continuum.sources.globs import label_of
from continuum.sources.local_files import FoundFiles, LocalFile, describe_files
from continuum.sources.source_files import format_of

COMPANIONS = "README/LICENSE files"
_COMPANION = re.compile(
    r"(readme|licen[cs]es?|copying|notices?|changelogs?|changes|citations?)([-_.].*|\d*)?", re.I
)
_METADATA = re.compile(r"dataset_infos?\.json|\.gitattributes", re.I)
_NO_TEXT = re.compile(
    r"\.(png|jpe?g|gif|bmp|tiff?|webp|ico|mp[34]|wav|flac|ogg|m4a|mkv|avi|mov|webm|[ot]tf|woff2?"
    r"|so|dll|dylib|exe|o|a|class|jar|whl)"
)
_JSON_LINES = re.compile(r"\.(json|jsonl|ndjson|jl)")
_OTHER_FORMATS = re.compile(
    r"\.(json|ndjson|jl|[ct]sv|parquet|arrow|feather|html?|xml|ya?ml|toml|ini|pdf|docx?|rtf|epub"
    r"|ipynb|zip|tar|tgz|7z|rar|warc|pkl|pickle|np[yz]|bin|pth?|safetensors|db|sqlite|h5|hdf5|gguf)"
)
"""Suffixes that say what a file is, and that it is none of ours."""


def choose_texts(folder: str, found: FoundFiles, stated: str | None) -> FoundFiles:
    """The texts among the files of a folder.

    Args:
        folder: As the spec names it.
        stated: The spec's `format`.

    Raises:
        PreflightError: there is none, or the files are of several formats, or of none.
    """
    taken: list[LocalFile] = []
    left = Counter(found.left)
    for file in found.files:
        reason = _why_left(file.name)
        if reason is None:
            taken.append(file)
        else:
            left[reason] += 1
    counts = count_by_suffix(taken)
    if not taken:
        why = f"left: {describe_files(left)}" if left else "it is empty"
        raise PreflightError(
            f"{folder}: there is no text to take in this folder ({why}); "
            f"a pattern takes what it names, as in `path: {folder}/**/*.txt`"
        )
    _check_one_format(folder, taken, counts, stated)
    return FoundFiles(tuple(taken), left)


def count_by_suffix(files: Iterable[LocalFile]) -> Counter[str]:
    """How many files there are of each suffix."""
    return Counter(label_of(file.name) for file in files)


def describe_choice(taken: Mapping[str, int], left: Mapping[str, int]) -> str:
    """What was taken and left, in words: `12 .txt taken; left: 5 .pyc, 1 .png`."""
    beside = f"; left: {describe_files(left)}" if left else ""
    return f"{describe_files(taken)} taken{beside}"


def format_warnings(files: Iterable[LocalFile], stated: str | None) -> tuple[str, ...]:
    """What is read otherwise than its suffix says, since a pattern and the `format` ask for it."""
    others = Counter(
        label_of(file.name)
        for file in files
        if stated is not None and _is_of_other_kind(file.name, stated)
    )
    if not others:
        return ()
    how = "a JSON object on each line" if stated == "jsonl" else "each file is one document"
    return (
        f"read as `format: {stated}` says, not as their suffix: {describe_files(others)} ({how})",
    )


def _why_left(name: str) -> str | None:
    last = PurePosixPath(name).name
    if _COMPANION.fullmatch(last):
        return COMPANIONS
    if _METADATA.fullmatch(last):
        return last.lower()
    return label_of(name) if _NO_TEXT.fullmatch(label_of(name)) else None


def _check_one_format(
    folder: str, taken: list[LocalFile], counts: Counter[str], stated: str | None
) -> None:
    formats = {format_of(file.name) for file in taken}
    others = [file for file in taken if stated is not None and _conflicts(file.name, stated)]
    if len(formats - {None}) > 1 or others:
        said = f" and `format: {stated}` is stated" if stated is not None else ""
        raise PreflightError(
            f"{folder}: this folder holds {describe_files(counts)}{said}; name the files of one "
            f"format by a pattern, {_examples(folder, taken)}"
        )
    if stated is None and None in formats:
        unknown = [file for file in taken if format_of(file.name) is None]
        raise PreflightError(
            f"{folder}: the suffix of {describe_files(count_by_suffix(unknown))} says no format "
            f"(the folder holds {describe_files(counts)}); state `format: txt`, md, py or jsonl, "
            f"or name the files by a pattern, {_examples(folder, taken)}"
        )


def _conflicts(name: str, stated: str) -> bool:
    """True if a name says another format than the stated one."""
    own = format_of(name)
    if own is not None:
        return own != stated
    suffix = _plain_suffix(name)
    is_lines = stated == "jsonl" and _JSON_LINES.fullmatch(suffix) is not None
    return _OTHER_FORMATS.fullmatch(suffix) is not None and not is_lines


def _is_of_other_kind(name: str, stated: str) -> bool:
    """True if it matters: prose that is read as JSON lines, or the reverse."""
    own = format_of(name)
    is_lines = _JSON_LINES.fullmatch(_plain_suffix(name)) is not None
    return is_lines != (stated == "jsonl") and (is_lines or own is not None)


def _plain_suffix(name: str) -> str:
    label = label_of(name)
    return re.sub(r"(.)\.(gz|zst|xz|bz2)$", r"\1", label)


def _examples(folder: str, taken: list[LocalFile]) -> str:
    by_number = count_by_suffix(file for file in taken if format_of(file.name) is not None)
    labels = [label for label, _ in by_number.most_common(2)] or [".txt"]
    return "as in " + " or ".join(f"`path: {folder}/**/*{label}`" for label in labels)
