"""The files of tokenizers and weights: each must be what its name says, and whole.

Where a repository was cloned without Git LFS, or a login page was saved, there is a small text
under the name of a large file. A loader's own words for that help nobody.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from continuum.errors import PreflightError
from continuum.sources.file_kinds import (
    POINTERS,
    SAFETENSORS,
    TORCH,
    FileKind,
    is_refusal,
    is_web_page,
    recognize,
)
from continuum.sources.looks import Look, look_at

GET_AGAIN = "get the file again"
METADATA = "__metadata__"
SHOWN_BYTES = 30
MAX_HEADER_BYTES = 100_000_000
"""Of a safetensors file, as its library has it."""


def check_model_files(paths: Iterable[Path]) -> None:
    """Look at each file's beginning and end.

    Raises:
        PreflightError: a file is empty, a pointer, a web page, of another kind, or cut short.
    """
    for path in paths:
        try:
            look = look_at(path)
        except OSError:
            continue  # Who reads it says so.
        if problem := _problem_of(path, look):
            raise PreflightError(f"{path}: {problem}")


def stand_in(look: Look) -> str | None:
    """What lies there instead of a file: a pointer, a web page, an error; None if it is none."""
    kind = recognize(look)
    if kind in POINTERS:
        return str(kind)
    if is_web_page(look.head):
        return (
            "an HTML page, such as a login or error page saved under this name, not the file "
            f"itself; {GET_AGAIN}, logged in if it needs that"
        )
    if is_refusal(look.head):
        return f"a storage server's error message (XML), not the file itself; {GET_AGAIN}"
    return None


def _problem_of(path: Path, look: Look) -> str | None:
    if not look.head:
        return f"the file is empty; {GET_AGAIN}"
    if problem := stand_in(look):
        return problem
    kind = recognize(look)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _safetensors_problem(path, look, kind)
    return _PROBLEMS.get(suffix, _other_problem)(look, kind)


def _json_problem(look: Look, kind: FileKind | None) -> str | None:
    if problem := _text_problem(look, kind):
        return problem
    start, end = look.head.removeprefix(b"\xef\xbb\xbf").lstrip(), look.tail.rstrip()
    if start[:1] not in (b"{", b"["):
        shown = start[:SHOWN_BYTES].decode(errors="replace")
        return f"not JSON: it begins with {shown!r}; {GET_AGAIN}"
    if start[:1] == b"{" and end[-1:] != b"}":
        return f"the file is cut short: its JSON object does not end; {GET_AGAIN}"
    return None


def _text_problem(look: Look, kind: FileKind | None) -> str | None:
    if kind is not None:
        return f"{kind.noun}, not a text; {GET_AGAIN}"
    return f"binary data, not a text; {GET_AGAIN}" if look.is_binary else None


def _torch_problem(look: Look, kind: FileKind | None) -> str | None:
    """A zip of torch.save, or a pickle of an early release."""
    if kind is SAFETENSORS:
        return "a safetensors file; end its name in .safetensors, or convert it"
    is_zip = look.head.startswith(b"PK\3\4")
    if not is_zip and not look.head.startswith(b"\x80"):
        found = f"{kind.noun}, not" if kind is not None else "not"
        return f"{found} a file of torch.save; {GET_AGAIN}"
    if is_zip and b"PK\5\6" not in look.tail:
        return f"the file is cut short: its zip archive has no directory; {GET_AGAIN}"
    if is_zip and kind is not TORCH:
        return f"a zip archive without data.pkl, not a file of torch.save; {GET_AGAIN}"
    return None


def _safetensors_problem(path: Path, look: Look, kind: FileKind | None) -> str | None:
    if kind is not SAFETENSORS:
        found = f"{kind.noun}, not" if kind is not None else "not"
        return f"{found} a safetensors file; {GET_AGAIN}"
    expected = _safetensors_bytes(path)
    if expected is None or expected != look.size_bytes:
        stated = "more" if expected is None else f"{expected:,}"
        return (
            f"the file has {look.size_bytes:,} bytes, and its header says {stated}: it is cut "
            f"short or damaged; {GET_AGAIN}"
        )
    return None


def _safetensors_bytes(path: Path) -> int | None:
    """The size that the header says; None where the header itself is not whole."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            return None
        try:
            header = json.loads(file.read(length))
            ends = [int(it["data_offsets"][1]) for key, it in header.items() if key != METADATA]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None
    return 8 + length + max(ends, default=0)


def _other_problem(_look: Look, kind: FileKind | None) -> str | None:
    return f"{kind.noun}; {GET_AGAIN}" if kind is not None else None


_PROBLEMS: dict[str, Callable[[Look, FileKind | None], str | None]] = {
    ".json": _json_problem,
    ".yaml": _text_problem,
    ".pth": _torch_problem,
    ".bin": _torch_problem,
}
