"""The keys that are valid at each path below a model, and suggestions for unknown ones."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from continuum.experiment.fields import Spec, field_docs
from continuum.experiment.one_of import OneOf
from continuum.loading.aliases import canonical_names, our_names
from continuum.suggestions import closest, nearest

KeyPath = tuple[str | int, ...]
ANY = "*"
"""Stands for a list item, or a free key of a mapping, in the path of a field."""
MAX_UNKNOWN = 100
"""A mapping with more unknown keys has no typos but other content."""


@dataclass(frozen=True)
class Field:
    """A field of a model."""

    model: type[Spec]
    name: str
    """In YAML."""
    info: FieldInfo

    @property
    def doc(self) -> str:
        """Its docstring on one line; empty if there is none."""
        text = field_docs(self.model).get(self.name, "") or self.info.description or ""
        return " ".join(text.split())


@cache
def fields(cls: type[Spec]) -> Mapping[tuple[str, ...], tuple[Field, ...]]:
    """Return all fields below a model by their paths in YAML, outer ones first.

    If a mapping has several forms, a path maps to the field in each form that has it.
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
    """Yield the models in a type, each with its path of `ANY`s."""
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
    """Return the field at a path of a document; for a list item, the list."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return next((fields(cls)[way][0] for way in _ways(cls, path) if way in fields(cls)), None)


@cache
def names_at(cls: type[Spec], path: KeyPath, form: type[Spec] | None = None) -> Mapping[str, bool]:
    """Return the valid keys of the mapping at a path, and whether each is required.

    Args:
        form: The form of a mapping that has several.
    """
    return {
        way[-1]: all(field.info.is_required() for field in known)
        for above in _ways(cls, path)
        for way, known in fields(cls).items()
        if way[:-1] == above and (form is None or any(field.model is form for field in known))
    }


def _ways(cls: type[Spec], path: KeyPath) -> list[tuple[str, ...]]:
    """The paths of fields that match a path of a document."""
    fitting: list[tuple[str, ...]] = [()]
    for part in path:
        ways = [(*above, key) for above in fitting for key in (str(part), ANY)]
        fitting = [way for way in ways if way in _prefixes(cls)]
    return fitting


@cache
def _prefixes(cls: type[Spec]) -> frozenset[tuple[str, ...]]:
    return frozenset(path[:end] for path in fields(cls) for end in range(len(path) + 1))


def suggest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most similar to `word`, except itself."""
    return closest(word, (candidate for candidate in known if candidate != word))


def clear_typos(keys: Collection[str], known: Mapping[str, bool]) -> Mapping[str, str]:
    """Return unknown keys of a mapping that are clear typos of a known, absent key, with that key.

    Args:
        keys: The keys of the mapping.
        known: The valid keys, and whether each is required; required ones are preferred.
    """
    unknown = [key for key in keys if key not in known]
    if len(unknown) > MAX_UNKNOWN:
        return {}
    order = {name: number for number, name in enumerate(known)}
    absent = sorted(known.keys() - set(keys), key=lambda name: (not known[name], order[name]))
    meant: dict[str, str] = {}
    for key in unknown:
        free = [name for name in absent if name not in meant.values()]
        typo = nearest(key, [*free, *known], max_typos=1)  # absent ones win
        same = next((ours for ours in canonical_names(key) if ours in free), None)
        found = typo or same or nearest(key, [*free, *known])
        if found in free:
            meant[key] = found
    return meant


@cache
def meant_key(
    cls: type[Spec], where: KeyPath, path: KeyPath, key: str, here: Sequence[str]
) -> str | None:
    """Return the right key for one that is unknown in the mapping at `path` below a model.

    In this order: a key of that name elsewhere, one typo, the name in another program, two typos
    here or elsewhere, and a similar key. `where` is the path of the model in the document.
    """
    if (elsewhere := right_place(cls, where, path, key)) is not None:
        return elsewhere
    if (typo := nearest(key, here, max_typos=1)) is not None:
        return typo
    # `interval` in `checkpoint` is `checkpoint.every` rather than `evaluate.every`.
    for ours in sorted(our_names(key), key=lambda name: name.partition(".")[0] not in path[-1:]):
        first, _, rest = ours.partition(".")
        place = right_place(cls, where, path, first)
        if place is not None and (found := ".".join(filter(None, (place, rest)))):
            return found  # `place` is empty in the mapping of that name itself
    if (typo := nearest(key, here)) is not None:
        return typo
    if (typo := nearest(key, dict.fromkeys(found[-1] for found in fields(cls)))) is not None:
        return right_place(cls, where, path, typo)
    return suggest(key, here)


def right_place(cls: type[Spec], where: KeyPath, path: KeyPath, name: str) -> str | None:
    """Return the path where a key of the mapping at `path` belongs: `lr` is `optimizer.lr`.

    Searched below that mapping first, then below each mapping around it. A key that belongs
    further out has its full path in the document, where the model is at `where`.
    """
    homes = [found for found in fields(cls) if found[-1] == name and ANY not in found]
    for depth in range(len(path), -1, -1):
        around = tuple(map(str, path[:depth]))
        for found in homes:
            if found[:depth] == around:
                outer = () if depth == len(path) else (*where, *path[:depth])
                return ".".join(str(part) for part in (*outer, *found[depth:]))
    return None
