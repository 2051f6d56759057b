"""Which keys may stand where: looked up in the models, for suggestions and explanations."""

from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from continuum.fields import Spec, closest

KeyPath = tuple[str | int, ...]
_CHOICES = (Union, UnionType, Annotated)


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The known word meant by `word`: the same but for case and dashes, else the closest."""
    words = list(known)
    for candidate in words:
        if candidate != word and _plain(candidate) == _plain(word):
            return candidate
    found = closest(word, words)
    return found if found != word else None


def field_names(cls: type[Spec], path: KeyPath) -> list[str]:
    """The keys allowed in the mapping at `path` below a model, each once."""
    names = [name for model in models_at(cls, path) for name, _ in _fields(model)]
    return list(dict.fromkeys(names))


def field_at(cls: type[Spec], path: KeyPath) -> FieldInfo | None:
    """The field that a path below a model leads to, through list items; None for a free key."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return None
    for model in models_at(cls, path[:-1]):
        for name, info in _fields(model):
            if name == path[-1]:
                return info
    return None


def models_at(cls: type[Spec], path: KeyPath) -> list[type[Spec]]:
    """The models that may describe the mapping at `path` below a model."""
    annotations: list[Any] = [cls]
    for part in path:
        annotations = [below for around in annotations for below in _inside(around, part)]
    return [model for annotation in annotations for model in _specs_in(annotation)]


def right_place(cls: type[Spec], where: KeyPath, path: KeyPath, name: str) -> str | None:
    """Where a key that stands in the mapping at `path` belongs: `lr` is `optimizer.lr`.

    Looked for below that mapping first, then below each mapping around it; what belongs further
    out is told by its whole path in the document, where the model is at `where`.
    """
    for depth in range(len(path), -1, -1):
        for found in _below(cls, path[:depth], name, depth=3):
            outer = () if depth == len(path) else (*where, *path[:depth])
            return ".".join(str(part) for part in (*outer, *found))
    return None


def _below(cls: type[Spec], path: KeyPath, name: str, depth: int) -> Iterator[tuple[str, ...]]:
    """Breadth first: a shallow home is the likelier one."""
    level: list[tuple[tuple[str, ...], type[Spec]]] = [((), m) for m in models_at(cls, path)]
    for _ in range(depth):
        deeper = []
        for above, model in level:
            for field, info in _fields(model):
                if field == name:
                    yield (*above, name)
                deeper += [((*above, field), below) for below in _specs_in(info.annotation)]
        level = deeper


def _fields(model: type[Spec]) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        yield info.alias or name, info


def _inside(annotation: Any, part: str | int) -> Iterator[Any]:
    """What a type says about the value at a key or an index of its values."""
    if _is_spec(annotation):
        yield from (info.annotation for name, info in _fields(annotation) if name == part)
        return
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in _CHOICES:
        for argument in arguments:
            yield from _inside(argument, part)
    elif origin is dict and isinstance(part, str):
        yield arguments[1]
    elif origin in (tuple, list) and isinstance(part, int):
        yield arguments[0]


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    """The models among the alternatives of a type."""
    if _is_spec(annotation):
        yield annotation
    elif get_origin(annotation) in _CHOICES:
        for argument in get_args(annotation):
            yield from _specs_in(argument)


def _is_spec(annotation: Any) -> TypeGuard[type[Spec]]:
    return isinstance(annotation, type) and issubclass(annotation, Spec)


def _plain(word: str) -> str:
    return word.casefold().replace("-", "_").rstrip("_")
