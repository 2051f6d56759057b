"""Which files of a folder are the texts of a corpus, when a spec names the folder and no pattern.

What stands beside data to describe it (`README.md`, `LICENSE`) and what is no text by its suffix
(pictures, programs) is left and counted. The rest must be of one format: a folder that mixes them
does not say what its texts are, and a pattern does.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

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
    _check_one_format(folder, counts, stated)
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
    if stated is None:
        return ()
    counts = count_by_suffix(files)
    others = {label: n for label, n in counts.items() if _is_of_other_kind(label, stated)}
    if not others:
        return ()
    how = "a JSON object on each line" if stated == "jsonl" else "each file is one document"
    return (
        f"read as `format: {stated}` says, not as their suffix: {describe_files(others)} ({how})",
    )


def _why_left(name: str) -> str | None:
    last = name.rpartition("/")[2]
    if _COMPANION.fullmatch(last):
        return COMPANIONS
    if _METADATA.fullmatch(last):
        return last.lower()
    label = label_of(name)
    return label if _NO_TEXT.fullmatch(label) else None


def _check_one_format(folder: str, counts: Counter[str], stated: str | None) -> None:
    formats = {_format_of(label) for label in counts}
    has_others = stated is not None and any(_conflicts(label, stated) for label in counts)
    if len(formats - {None}) > 1 or has_others:
        said = f" and `format: {stated}` is stated" if stated is not None else ""
        raise PreflightError(
            f"{folder}: this folder holds {describe_files(counts)}{said}; name the files of one "
            f"format by a pattern, {_examples(folder, counts)}"
        )
    if stated is None and None in formats:
        unknown = {label: n for label, n in counts.items() if _format_of(label) is None}
        raise PreflightError(
            f"{folder}: the suffix of {describe_files(unknown)} says no format "
            f"(the folder holds {describe_files(counts)}); state `format: txt`, md, py or jsonl, "
            f"or name the files by a pattern, {_examples(folder, counts)}"
        )


def _format_of(label: str) -> str | None:
    return format_of(f"x{label}") if label.startswith(".") else None


def _conflicts(label: str, stated: str) -> bool:
    """True if a suffix says another format than the stated one."""
    own = _format_of(label)
    if own is not None:
        return own != stated
    suffix = _plain_suffix(label)
    is_lines = stated == "jsonl" and _JSON_LINES.fullmatch(suffix) is not None
    return _OTHER_FORMATS.fullmatch(suffix) is not None and not is_lines


def _is_of_other_kind(label: str, stated: str) -> bool:
    """True if it matters: prose that is read as JSON lines, or the reverse."""
    is_lines = _JSON_LINES.fullmatch(_plain_suffix(label)) is not None
    return is_lines != (stated == "jsonl") and (is_lines or _format_of(label) is not None)


def _plain_suffix(label: str) -> str:
    return re.sub(r"(.)\.(gz|zst|xz|bz2)$", r"\1", label)


def _examples(folder: str, counts: Counter[str]) -> str:
    known = [label for label, _ in counts.most_common() if _format_of(label) is not None]
    labels = known[:2] or [".txt"]
    return "as in " + " or ".join(f"`path: {folder}/**/*{label}`" for label in labels)
