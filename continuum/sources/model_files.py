"""Checks the files of tokenizers and weights: each must be what its name says, and complete.

A clone without Git LFS or a saved login page leaves a small text under the name of a large file,
and the error of the library that loads it does not say so.
"""

import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

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

GET_AGAIN = "download the file again"
SHOWN_BYTES = 30
_TENSOR_OBJECTS = re.compile(
    r"torch[.\w]* \w+|collections (OrderedDict|Counter)|_codecs encode"
    r"|(builtins|__builtin__) (bytearray|complex|set)"
)
"""What `torch.load(weights_only=True)` accepts in a pickle, or reports itself."""
EARLY_PICKLES = 4
"""An early file of torch.save is a magic number, a version, the system's types and the object."""
Shapes = dict[str, tuple[int, ...]]
"""The shapes of tensors by name."""


def check_model_files(paths: Iterable[Path]) -> None:
    """Check the start and end of each file.

    Raises:
        PreflightError: a file is empty, a pointer, a web page, of another kind, truncated, or a
            pickle with objects other than tensors.
    """
    for path in paths:
        try:
            problem = _problem_of(path, look_at(path))
        except OSError:
            continue  # reported by the reader
        if problem is not None:
            raise PreflightError(f"{path}: {problem}")


def refuse_training_checkpoint(weights: Path) -> None:
    """Refuse LitGPT's file of weights if it has an optimizer's state beside them.

    Raises:
        PreflightError: with the command that extracts the weights.
    """
    if "model" in (_outline(weights) or {}):
        raise PreflightError(
            f"{weights} is a training checkpoint (weights and optimizer state); convert it with "
            f"`litgpt convert_pretrained_checkpoint {weights.parent} NEW`, and import NEW"
        )


def tensor_shapes(weights: Path) -> Shapes | None:
    """The shapes of the tensors in a file of weights; None if they cannot be read in advance."""
    content = _outline(weights)
    if content is None or not all(isinstance(it, _Shape) for it in content.values()):
        return None
    return {str(name): tuple(shape) for name, shape in content.items()}


class _Shape(tuple[int, ...]):
    """A tensor in an outline."""


class _Opaque(dict[Any, Any]):
    """Any other object in an outline: it ignores what a pickle does with it."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


class _Items(dict[Any, Any]):
    """An OrderedDict in an outline; it may have attributes, such as a model's `_metadata`."""


def _shape(_storage: Any, _offset: int, size: Iterable[int], *_: Any) -> _Shape:
    return _Shape(size)


def _first(parameter: Any, *_: Any) -> Any:
    return parameter


_OUTLINED = {
    ("collections", "OrderedDict"): _Items,
    ("torch._utils", "_rebuild_tensor_v2"): _shape,
    ("torch._utils", "_rebuild_parameter"): _first,
}


class _OutlineReader(pickle.Unpickler):
    """Reads a pickle of torch.save with shapes for tensors; it calls nothing that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        return _OUTLINED.get((module, name), _Opaque)

    def persistent_load(self, _: Any) -> None:
        return None


def _outline(path: Path) -> dict[Any, Any] | None:
    """The dictionary in a file of torch.save, without its numbers; None if it cannot be read."""
    try:
        with _opened_pickles(path) as (file, num_pickles):
            reader = _OutlineReader(file)
            *_, content = (reader.load() for _ in range(num_pickles))
    except Exception:  # of any kind: the file may hold anything
        return None
    return content if isinstance(content, dict) else None


@contextmanager
def _opened_pickles(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The pickles of a file of torch.save, and their number; the last one is the object."""
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        if not zipfile.is_zipfile(file):
            file.seek(0)
            yield file, EARLY_PICKLES
            return
        archive = stack.enter_context(zipfile.ZipFile(file))
        (name,) = (it for it in archive.namelist() if it.endswith("/data.pkl"))
        yield stack.enter_context(archive.open(name)), 1


def stand_in(look: Look) -> str | None:
    """What is stored instead of the file: a pointer, a web page or an error; None if nothing."""
    kind = recognize(look)
    if kind in POINTERS:
        return str(kind)
    if is_web_page(look.head):
        return (
            "an HTML page, such as a login or error page saved under this name, not the file "
            f"itself; {GET_AGAIN}, after logging in if necessary"
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
        return _torch_problem(look, kind, noun) or _unsafe_pickle(path)
    if suffix in {".json", ".yaml"} and (kind is not None or look.is_binary):
        return f"{noun or 'binary data, '}not text; {GET_AGAIN}"
    if suffix == ".json":
        return _json_problem(look)
    return f"{kind.noun}; {GET_AGAIN}" if kind is not None else None


def _json_problem(look: Look) -> str | None:
    start, end = look.head.removeprefix(b"\xef\xbb\xbf").lstrip(), look.tail.rstrip()
    if start[:1] not in (b"{", b"["):
        shown = start[:SHOWN_BYTES].decode(errors="replace")
        return f"not valid JSON: it starts with {shown!r}; {GET_AGAIN}"
    if start[:1] == b"{" and end[-1:] != b"}":
        return f"the file is truncated: its JSON object does not end; {GET_AGAIN}"
    return None


def _torch_problem(look: Look, kind: FileKind | None, noun: str) -> str | None:
    """The error of a file that is not a zip archive or an early pickle of torch.save."""
    if kind is SAFETENSORS:
        return "a safetensors file; rename it to .safetensors, or convert it"
    is_zip = look.head.startswith(b"PK\3\4")
    if not is_zip and not look.head.startswith(b"\x80"):
        return f"{noun}not a file of torch.save; {GET_AGAIN}"
    if is_zip and b"PK\5\6" not in look.tail:
        return f"the file is truncated: its zip archive has no directory; {GET_AGAIN}"
    if is_zip and kind is not TORCH:
        return f"a zip archive without data.pkl, not a file of torch.save; {GET_AGAIN}"
    return None


def _unsafe_pickle(path: Path) -> str | None:
    """The error of a pickle that would call other code than torch's, found without loading it."""
    try:
        with _opened_pickles(path) as (file, num_pickles):
            for _ in range(num_pickles):
                for found in _objects_in(file):
                    if not _TENSOR_OBJECTS.fullmatch(found):
                        return (
                            f"contains objects other than tensors ({found.replace(' ', '.')}), so "
                            "loading it may execute code; do not load it, get a safetensors file"
                        )
    except (ValueError, EOFError, zipfile.BadZipFile):
        return f"the file is truncated or corrupt; {GET_AGAIN}"
    return None


def _objects_in(pickle: IO[bytes]) -> Iterator[str]:
    """The classes and functions that a pickle names, each with its module."""
    texts = [""]
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument)
        elif opcode.name == "STACK_GLOBAL":
            yield " ".join(texts[-2:])
        elif isinstance(argument, str):
            texts.append(argument)


def _safetensors_damage(path: Path) -> str | None:
    """The error of a safetensors file whose size differs from its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return None
    except SafetensorError as error:
        return f"the file is truncated or corrupt ({error}); {GET_AGAIN}"
