"""Examples of a mapping or a list for the message about a value that should be one.

They hold what the user wrote: for `optimizer: adamw`, `{name: AdamW, lr: 3e-4}`. Candidates are
tried in order of likelihood, and the first that the field accepts is shown.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo

from continuum.experiment.fields import Ref, Spec
from continuum.experiment.one_of import OneOf
from continuum.loading.aliases import synonym_of
from continuum.loading.dump import in_one_line
from continuum.loading.keys import Field, models_in
from continuum.runs.redaction import redacted
from continuum.suggestions import closest

MAX_SHOWN = 100
"""Characters of an example; a longer one is not shown."""
MAX_TRIED = 60
"""Candidates that are tried for one value."""


def own_example(field: Field, value: Any, folder: Path, *, is_item: bool = False) -> Any:
    """Return a valid value of the field that holds what the user wrote; None if none is found.

    Args:
        field: The field, or the list that holds the value.
        value: The wrong value, as plain JSON.
        folder: The experiment's folder.
        is_item: Whether the value is an item of the field's list.
    """
    value = _without_places(value)
    if isinstance(value, bool) or value is None or redacted(in_one_line(value))[1]:
        return None
    found = _of_type(field.info.annotation, (value,) if is_item else value)
    for candidate in islice(found, MAX_TRIED):
        shown = candidate[0] if is_item else candidate
        if (
            candidate != value
            and len(written(shown)) <= MAX_SHOWN
            and _accepts(field.model, field.name, candidate, folder)
        ):
            return shown
    return None


def any_example(annotation: Any) -> Any:
    """Return a valid value of a simple type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    for _, model in models_in(annotation):
        return _required(model)
    if origin is Literal:
        return arguments[0]
    if origin in (tuple, list):
        return (any_example(arguments[0]),)
    if arguments and origin is not Ref:
        return any_example(arguments[0])
    return "unknown" if issubclass(origin or annotation, str) else 1


def written(value: Any) -> str:
    """Return an example as people write it: `{lr: 3e-4}`."""
    text = in_one_line(value)
    small = r"(?<=[ \[])(?:0\.00+[1-9]|[0-9.]+e-[0-9]+)(?=[,\]}])"
    return re.sub(small, lambda found: f"{float(found[0]):.0e}".replace("e-0", "e-"), text)


def _without_places(value: Any) -> Any:
    """The value with plain strings."""
    if isinstance(value, dict):
        return {str(key): _without_places(it) for key, it in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(map(_without_places, value))
    return str(value) if isinstance(value, str) else value


def _of_type(annotation: Any, value: Any) -> Iterator[Any]:
    """Values of a type that hold `value`, the most likely first."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType, Annotated):
        for argument in arguments[:1] if origin is Annotated else arguments:
            yield from _of_type(argument, value)
    elif origin in (tuple, list):
        yield from _lists(arguments[0], value)
    elif origin is dict:
        yield from _shares(value)
    elif isinstance(annotation, type) and issubclass(annotation, Spec):
        yield from _mappings(annotation, value)
    elif isinstance(value, (tuple, list)) and len(value) == 1:
        yield value[0]


def _lists(item: Any, value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        columns = [[it, *_of_type(item, it)] for it in value]
        yield from (tuple(row) for row in zip(*map(_endless, columns), strict=False))
        return
    words = re.split(r"\s*,\s*|\s+", value.strip()) if isinstance(value, str) else []
    if len(words) > 1:
        yield tuple(map(_number_or_text, words))
    yield (value,)
    yield from ((it,) for it in _of_type(item, value))


def _endless(column: list[Any]) -> Iterator[Any]:
    yield from column
    for _ in range(MAX_TRIED):
        yield column[-1]


def _number_or_text(word: str) -> Any:
    try:
        return float(word)
    except ValueError:
        return word


def _shares(value: Any) -> Iterator[Any]:
    """Mappings of names to numbers: a list of names has equal shares."""
    if isinstance(value, (tuple, list)) and value:
        if all(isinstance(it, dict) for it in value):
            yield {key: share for it in value for key, share in it.items()}
        elif all(isinstance(it, str) for it in value):
            yield dict.fromkeys(value, 1)


def _mappings(model: type[Spec], value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, (tuple, list)):
        if value and all(isinstance(it, dict) for it in value):
            yield {key: item for it in value for key, item in it.items()}
        elif len(value) == 1:
            yield from _mappings(model, value[0])
    if (own := model.meant_by(value)) is not None:
        yield own
    if isinstance(value, (dict, tuple, list)):
        return
    required = _required(model)
    names = {info.alias or name: info for name, info in model.model_fields.items()}
    for name, info in sorted(names.items(), key=lambda it: not _choices(model, *it)):
        choices = _choices(model, name, info)
        spelled = _choice(value, choices) if choices else value
        if spelled is None:
            continue
        base = {name: spelled, **{key: it for key, it in required.items() if key != name}}
        yield base
        others = ((key, it.examples) for key, it in names.items() if key not in base)
        yield from ({**base, key: examples[0]} for key, examples in others if examples)


def _choices(model: type[Spec], name: str, info: FieldInfo) -> Sequence[str]:
    """The words that a field allows, if they are listed."""
    if issubclass(model, OneOf) and name == model.chosen_by:
        return tuple(model.forms())
    return _words(info.annotation)


def _choice(value: Any, choices: Sequence[str]) -> str | None:
    """The choice that a word means."""
    word = str(value).lower()
    same = next((it for it in choices if it.lower() == word), synonym_of(value, choices))
    begun = next((it for it in choices if word.startswith(it.lower())), None)
    return same or closest(str(value), choices) or begun


def _words(annotation: Any) -> tuple[str, ...]:
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return tuple(it for it in arguments if isinstance(it, str))
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return tuple(word for it in arguments for word in _words(it))
    return ()


def _required(model: type[Spec]) -> dict[str, Any]:
    """The required fields with examples."""
    return {
        info.alias or name: info.examples[0] if info.examples else any_example(info.annotation)
        for name, info in model.model_fields.items()
        if info.is_required()
    }


def _accepts(model: type[Spec], name: str, value: Any, folder: Path) -> bool:
    try:
        _probe(model, name).model_validate({name: value}, context={"folder": folder})
    except ValidationError:
        return False
    return True


@cache
def _probe(model: type[Spec], name: str) -> type[Spec]:
    """A model with one field of another."""
    own_name, info = next(
        (own, info) for own, info in model.model_fields.items() if name in (own, info.alias)
    )
    fields: dict[str, Any] = {own_name: (info.annotation, info)}
    made: type[Spec] = create_model("Probe", __base__=Spec, **fields)
    return made
