"""The fields below a model: what may stand where, and which of them an unknown key means."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from continuum.experiment.fields import Spec, field_docs
from continuum.experiment.one_of import OneOf
from continuum.loading.aliases import our_names, same_names
from continuum.suggestions import closest, nearest

KeyPath = tuple[str | int, ...]
ANY = "*"
"""In the path of a field: an item of a list, or a free key of a mapping."""
MAX_UNKNOWN = 100
"""Unknown keys of one mapping: where there are more, they are no slips."""


@dataclass(frozen=True)
class Field:
    """A field of a model."""

    model: type[Spec]
    name: str
    """In YAML."""
    info: FieldInfo

    @property
    def doc(self) -> str:
        """What the field means, on one line; empty for a field without a docstring."""
        text = field_docs(self.model).get(self.name, "") or self.info.description or ""
        return " ".join(text.split())


@cache
def fields(cls: type[Spec]) -> Mapping[tuple[str, ...], tuple[Field, ...]]:
    """All fields below a model by their paths in YAML, the outer ones first.

    Where a mapping may have several forms, a path leads to a field in each form that has it.
    """
    found: dict[tuple[str, ...], tuple[Field, ...]] = {}
    level: list[tuple[tuple[str, ...], type[Spec]]] = [((), cls)]
    while level:
        deeper = []
        for above, model in level:
            for own_name, info in model.model_fields.items():
                name = info.alias or own_name
                path = (*above, name)
                found[path] = (*found.get(path, ()), Field(model, name, info))
                deeper += [((*path, *way), below) for way, below in models_in(info.annotation)]
        level = deeper
    return found


def models_in(annotation: Any) -> Iterator[tuple[tuple[str, ...], type[Spec]]]:
    """The models in a type, each with the `ANY`s that lead to it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        if issubclass(annotation, OneOf) and OneOf in annotation.__bases__:
            yield from (((), form) for form in annotation.forms().values())
        else:
            yield (), annotation
    elif origin in (Union, UnionType, Annotated):
        for argument in arguments:
            yield from models_in(argument)
    elif origin in (tuple, list, dict):
        inner = arguments[1] if origin is dict else arguments[0]
        yield from (((ANY, *way), model) for way, model in models_in(inner))


@cache
def field_at(cls: type[Spec], path: KeyPath) -> Field | None:
    """The field that a path of a document leads to; for an item of a list, the list."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return next((fields(cls)[way][0] for way in _ways(cls, path) if way in fields(cls)), None)


@cache
def names_at(cls: type[Spec], path: KeyPath, form: type[Spec] | None = None) -> Mapping[str, bool]:
    """The keys that may stand in the mapping at a path, and whether each is required there.

    Args:
        form: Of a mapping of several forms, the one that it has.
    """
    return {
        way[-1]: all(field.info.is_required() for field in known)
        for above in _ways(cls, path)
        for way, known in fields(cls).items()
        if way[:-1] == above and (form is None or any(field.model is form for field in known))
    }


def _ways(cls: type[Spec], path: KeyPath) -> list[tuple[str, ...]]:
    """The paths of fields that a path of a document fits, `ANY` standing for items and keys."""
    fitting: list[tuple[str, ...]] = [()]
    for part in path:
        ways = [(*above, key) for above in fitting for key in (str(part), ANY)]
        fitting = [way for way in ways if way in _prefixes(cls)]
    return fitting


@cache
def _prefixes(cls: type[Spec]) -> frozenset[tuple[str, ...]]:
    return frozenset(path[:end] for path in fields(cls) for end in range(len(path) + 1))


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The known word meant by `word`, which is not among them."""
    return closest(word, (candidate for candidate in known if candidate != word))


def clear_slips(keys: Collection[str], known: Mapping[str, bool]) -> Mapping[str, str]:
    """Unknown keys of a mapping that can only mean a known one which is absent, with that one.

    Args:
        keys: The keys of the mapping.
        known: Those that it may have, and whether each is required: what is, is meant first.
    """
    unknown = [key for key in keys if key not in known]
    if len(unknown) > MAX_UNKNOWN:
        return {}
    order = {name: number for number, name in enumerate(known)}
    absent = sorted(known.keys() - set(keys), key=lambda name: (not known[name], order[name]))
    meant: dict[str, str] = {}
    for key in unknown:
        free = [name for name in absent if name not in meant.values()]
        slip = nearest(key, [*free, *known], max_slips=1)  # of those as near, one that is absent
        same = next((ours for ours in same_names(key) if ours in free), None)
        found = slip or same or nearest(key, [*free, *known])
        if found in free:
            meant[key] = found
    return meant


@cache
def meant_key(
    cls: type[Spec], where: KeyPath, path: KeyPath, key: str, here: Sequence[str]
) -> str | None:
    """The key meant by one that is unknown in the mapping at `path` below a model.

    Asked in turn: a key of that name elsewhere, one slip of the hand, what other programs call so,
    two slips, here or elsewhere, and what is alike. `where` is the model's place in the document.
    """
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
    if (slip := nearest(key, dict.fromkeys(found[-1] for found in fields(cls)))) is not None:
        return right_place(cls, where, path, slip)
    return suggest(key, here)


def right_place(cls: type[Spec], where: KeyPath, path: KeyPath, name: str) -> str | None:
    """Where a key that stands in the mapping at `path` belongs: `lr` is `optimizer.lr`.

    Looked for below that mapping first, then below each mapping around it; what belongs further
    out is told by its whole path in the document, where the model is at `where`.
    """
    homes = [found for found in fields(cls) if found[-1] == name and ANY not in found]
    for depth in range(len(path), -1, -1):
        around = tuple(map(str, path[:depth]))
        for found in homes:
            if found[:depth] == around:
                outer = () if depth == len(path) else (*where, *path[:depth])
                return ".".join(str(part) for part in (*outer, *found[depth:]))
    return None
