"""Which keys may stand where: looked up in the models, for suggestions and explanations."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from continuum.fields import Spec, field_docs
from continuum.spec.foreign import our_names
from continuum.spelling import closest, nearest

KeyPath = tuple[str | int, ...]
MAX_COMPARED = 30_000
"""Known words that wrong ones are compared with, in all."""
MAX_DEPTH = 4
"""Mappings inside each other, from a stage inwards."""
MAX_REMEMBERED = 1024
"""Mappings whose keys are looked up once: the stages of a large spec are of few kinds."""
_CHOICES = (Union, UnionType, Annotated)


class Effort:
    """What looking for suggestions may cost in one document: not without end in a wild one."""

    def __init__(self) -> None:
        self._words_left = MAX_COMPARED

    def affords(self, num_words: int) -> bool:
        """Whether to compare a wrong word with so many; they count from then on."""
        self._words_left -= num_words
        return self._words_left >= 0


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The known word meant by `word`, which is not among them."""
    return closest(word, (candidate for candidate in known if candidate != word))


def meant_key(cls: type[Spec], where: KeyPath, path: KeyPath, key: str) -> str | None:
    """The key meant by one that is unknown in the mapping at `path` below a model.

    Asked in turn: a key of that name elsewhere, one slip of the hand, what other programs call so,
    two slips, here or elsewhere, and what is alike. `where` is the model's place in the document.
    """
    here = field_names(cls, path)
    if (elsewhere := right_place(cls, where, path, key)) is not None:
        return elsewhere
    if (slip := nearest(key, here, max_slips=1)) is not None:
        return slip
    for ours in our_names(key):
        first, _, rest = ours.partition(".")
        if (place := right_place(cls, where, path, first)) is not None:
            return f"{place}.{rest}" if rest else place
    if (slip := nearest(key, here)) is not None:
        return slip
    if (slip := nearest(key, _all_names(cls))) is not None:
        return right_place(cls, where, path, slip)
    return suggest(key, here)


@lru_cache(maxsize=MAX_REMEMBERED)
def field_names(cls: type[Spec], path: KeyPath) -> tuple[str, ...]:
    """The keys allowed in the mapping at `path` below a model, each once."""
    names = [name for model in models_at(cls, path) for name, _ in _fields(model)]
    return tuple(dict.fromkeys(names))


def field_at(cls: type[Spec], path: KeyPath) -> FieldInfo | None:
    """The field that a path below a model leads to, through list items; None for a free key."""
    found = _owner_at(cls, path)
    return found[1] if found is not None else None


def docs_at(cls: type[Spec], path: KeyPath) -> str:
    """The docstring of the field that a path leads to; empty for one without, or a free key."""
    found = _owner_at(cls, path)
    return field_docs(found[0]).get(found[2], "") if found is not None else ""


@lru_cache(maxsize=MAX_REMEMBERED)
def required_names(cls: type[Spec], path: KeyPath) -> tuple[str, ...]:
    """The keys that the mapping at `path` below a model must have, whatever its form."""
    needed = [{n for n, info in _fields(m) if info.is_required()} for m in models_at(cls, path)]
    return tuple(sorted(set.intersection(*needed))) if needed else ()


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
        for found in _below(cls, path[:depth], name):
            outer = () if depth == len(path) else (*where, *path[:depth])
            return ".".join(str(part) for part in (*outer, *found))
    return None


def _owner_at(cls: type[Spec], path: KeyPath) -> tuple[type[Spec], FieldInfo, str] | None:
    """The model that has the field at a path, the field, and its name in YAML."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return None
    for model in models_at(cls, path[:-1]):
        for name, info in _fields(model):
            if name == path[-1]:
                return model, info, name
    return None


def _below(cls: type[Spec], path: KeyPath, name: str) -> Iterator[tuple[str, ...]]:
    """Breadth first: a shallow home is the likelier one."""
    level: list[tuple[tuple[str, ...], type[Spec]]] = [((), m) for m in models_at(cls, path)]
    for _ in range(MAX_DEPTH):
        deeper = []
        for above, model in level:
            for field, info in _fields(model):
                if field == name:
                    yield (*above, name)
                deeper += [((*above, field), below) for below in _specs_in(info.annotation)]
        level = deeper


def _all_names(cls: type[Spec]) -> list[str]:
    """Every key of a model and of those inside it, the outer ones first."""
    names: dict[str, None] = {}
    level: list[type[Spec]] = [cls]
    for _ in range(MAX_DEPTH):
        fields = [field for model in level for field in _fields(model)]
        names |= dict.fromkeys(name for name, _ in fields)
        level = [below for _, info in fields for below in _specs_in(info.annotation)]
    return list(names)


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
