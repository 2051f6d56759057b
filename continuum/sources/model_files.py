"""The files of tokenizers and weights: each must be what its name says, and complete.

Where a repository was cloned without Git LFS, or a login page was saved, there is a small text
under the name of a large file. A loader's own words for that help nobody.
"""

from collections.abc import Iterable
from pathlib import Path

from continuum.errors import PreflightError
from continuum.sources.file_kinds import (
    POINTERS,
    SAFETENSORS,
    TORCH,
    FileKind,
    Look,
    is_refusal,
    is_web_page,
    look_at,
    recognize,
)

GET_AGAIN = "get the file again"
SHOWN_BYTES = 30


def check_model_files(paths: Iterable[Path]) -> None:
    """Look at each file's beginning and end.

    Raises:
        PreflightError: a file is empty, a pointer, a web page, of another kind, or cut short.
    """
    for path in paths:
        try:
            problem = _problem_of(path, look_at(path))
        except OSError:
            continue  # Who reads it says so.
        if problem is not None:
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
    kind, suffix = recognize(look), path.suffix.lower()
    noun = f"{kind.noun}, " if kind is not None else ""
    if suffix == ".safetensors":
        is_right = kind is SAFETENSORS
        return (
            _safetensors_damage(path) if is_right else f"{noun}not a safetensors file; {GET_AGAIN}"
        )
    if suffix in {".pth", ".bin"}:
        return _torch_problem(look, kind, noun)
    if suffix in {".json", ".yaml"} and (kind is not None or look.is_binary):
        return f"{noun or 'binary data, '}not a text; {GET_AGAIN}"
    if suffix == ".json":
        return _json_problem(look)
    return f"{kind.noun}; {GET_AGAIN}" if kind is not None else None


def _json_problem(look: Look) -> str | None:
    start, end = look.head.removeprefix(b"\xef\xbb\xbf").lstrip(), look.tail.rstrip()
    if start[:1] not in (b"{", b"["):
        shown = start[:SHOWN_BYTES].decode(errors="replace")
        return f"not JSON: it begins with {shown!r}; {GET_AGAIN}"
    if start[:1] == b"{" and end[-1:] != b"}":
        return f"the file is cut short: its JSON object does not end; {GET_AGAIN}"
    return None


def _torch_problem(look: Look, kind: FileKind | None, noun: str) -> str | None:
    """A zip of torch.save, or a pickle of an early release."""
    if kind is SAFETENSORS:
        return "a safetensors file; end its name in .safetensors, or convert it"
    is_zip = look.head.startswith(b"PK\3\4")
    if not is_zip and not look.head.startswith(b"\x80"):
        return f"{noun}not a file of torch.save; {GET_AGAIN}"
    if is_zip and b"PK\5\6" not in look.tail:
        return f"the file is cut short: its zip archive has no directory; {GET_AGAIN}"
    if is_zip and kind is not TORCH:
        return f"a zip archive without data.pkl, not a file of torch.save; {GET_AGAIN}"
    return None


def _safetensors_damage(path: Path) -> str | None:
    """Opening compares the size that its header says with the file's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return None
    except SafetensorError as error:
        return f"the file is cut short or damaged ({error}); {GET_AGAIN}"
