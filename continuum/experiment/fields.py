"""What the fields of a spec are made of: strict models, local paths, references.

Identity. Every field is part of a stage's identity (and so of its fingerprint) unless it is
declared with `runtime_field` (how the work is done) or `cosmetic_field` (words for people), or is
a local path (what counts is the bytes it leads to, see `Stage.local_inputs`). A field that is None
is left out of the payload, so a later release may add an optional field without disowning old runs.
"""

import ast
import inspect
import itertools
import os.path
import re
import textwrap
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
)
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from continuum.runs.artifacts import Artifact, ArtifactT
from continuum.runs.file_names import encodable, unescape_name
from continuum.suggestions import closest

ROLE = "x-continuum-role"
"""In a field's JSON Schema: `identity`, `runtime` or `cosmetic`."""
UNIT = "x-continuum-unit"
"""In a field's JSON Schema: what its number counts or measures."""
DEFINITION = "x-continuum-definition"
"""In a JSON Schema that Pydantic writes out wherever it is used: the name to define it by."""
FINAL = "final"
BEST = "best"
VALIDATION_LOSS = "val_loss"
_SELECTOR = re.compile(r"final|best(:[a-z0-9_/-]+)?|step-[1-9][0-9]*")


def runtime_field(default: Any, **kwargs: Any) -> Any:
    """A field that says how the work is done; it does not change what is made."""
    return Field(default, json_schema_extra={ROLE: "runtime"}, **kwargs)


def cosmetic_field(default: Any, **kwargs: Any) -> Any:
    """A field for human readers only."""
    return Field(default, json_schema_extra={ROLE: "cosmetic"}, **kwargs)


Precision = Literal["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed"]


class Spec(BaseModel):
    """A part of the document: strict, closed and frozen.

    Pydantic could take the docstrings of the fields when a class is made, and would read every
    source file for it: a sixth of a short command's time. `field_docs` reads them when asked.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)

    is_scalar: ClassVar[bool] = False
    """Whether people write and read it as one word, which `str()` gives."""

    def identity(self) -> dict[str, Any]:
        """The fields that decide what is made, with defaults filled in and None left out.

        References are still `Ref`s in it: their names are not identity, see `continuum.identity`.
        """
        payload = {}
        for name, info in type(self).model_fields.items():
            extra = info.json_schema_extra
            is_identity = not isinstance(extra, dict) or extra.get(ROLE, "identity") == "identity"
            value = _identity_of(getattr(self, name))
            if is_identity and value is not None:
                payload[info.alias or name] = value
        return payload

    def refs(self) -> dict[tuple[str | int, ...], "Ref[Any]"]:
        """Every reference in the fields, by its place in YAML."""
        return self._refs

    def observed_refs(self) -> frozenset[str]:
        """The references that stand in runtime fields alone: inputs that change nothing made."""
        return frozenset(map(str, self.refs().values())) - set(_made_from(self))

    @cached_property
    def _refs(self) -> dict[tuple[str | int, ...], "Ref[Any]"]:
        return dict(_find_refs(self, ()))


MAPPING, VALUE = "[mapping]", "[value]"
"""Tags of a field that holds a mapping or a single value."""
BY_FORM = Discriminator(lambda value: MAPPING if isinstance(value, (dict, Spec)) else VALUE)
"""Chooses between them. The brackets keep tags apart from keys in the places of errors."""


class OneOf(Spec):
    """A model of several forms, chosen by the value of one field; a form is made when first used.

    Of a value only the fields that were given are written out, since each form has many.
    """

    chosen_by: ClassVar[str | None] = None
    """The field whose value names the form, its default where it is left out; None for one form."""

    @classmethod
    @abstractmethod
    def forms(cls) -> Mapping[str, type[Self]]:
        """The forms by their names."""

    @classmethod
    def form_of(cls, value: Mapping[str, Any]) -> type[Self] | None:
        """The form of a mapping; None where none has its name."""
        if cls.chosen_by is None:
            return next(iter(cls.forms().values()))
        name = value.get(cls.chosen_by, cls.model_fields[cls.chosen_by].default)
        return cls.forms().get(name) if isinstance(name, str) else None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if OneOf not in cls.__bases__:  # it is a form
            return handler(source)
        return core_schema.with_info_plain_validator_function(cls._parse)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The fields of all forms in one mapping; those of some say of which."""
        if OneOf not in cls.__bases__:
            return handler(schema)
        forms = {name: form.model_json_schema()["properties"] for name, form in cls.forms().items()}
        properties = {key: below for known in forms.values() for key, below in known.items()}
        for key, below in properties.items():
            users = [name for name, known in forms.items() if key in known]
            if len(users) < len(forms):
                below["description"] += f" Of {', '.join(users)}."
        if cls.chosen_by is not None:
            usual = cls.model_fields[cls.chosen_by].default
            properties[cls.chosen_by] = {"enum": list(forms), "default": usual}
        for key, text in field_docs(cls).items():
            properties[key].setdefault("description", text)
        return {DEFINITION: cls.__name__, "type": "object", "properties": properties}

    @classmethod
    def _parse(cls, value: Any, info: ValidationInfo) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise PydanticKnownError("model_type", {"class_name": cls.__name__})
        if (form := cls.form_of(value)) is None:
            assert cls.chosen_by is not None
            message, known = "unknown {word} '{name}'", tuple(cls.forms())
            name = str(value.get(cls.chosen_by))
            context = {"word": cls.__name__.lower(), "name": name, "key": cls.chosen_by}
            raise PydanticCustomError("form", message, {**context, "known": known})
        # A record's lists are tuples here.
        return form.model_validate(tuples_of(value), context=info.context)

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        given = self.model_fields_set
        dumped = handler(self).items()
        return {name: value for name, value in dumped if name in given or value is not None}


def tuples_of(value: Any) -> Any:
    """A JSON value with tuples in place of lists, as strict models want them."""
    if isinstance(value, dict):
        return {key: tuples_of(item) for key, item in value.items()}
    return tuple(map(tuples_of, value)) if isinstance(value, (list, tuple)) else value


@cache
def field_docs(cls: type[Spec]) -> Mapping[str, str]:
    """The docstrings of a model's fields, inherited ones too, by their names in YAML."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Spec) and base is not Spec:
            found |= _docs_in(base)
    fields = cls.model_fields.items()
    return {info.alias or name: found[name] for name, info in fields if name in found}


def _docs_in(cls: type[Spec]) -> Iterator[tuple[str, str]]:
    """Each field that the class itself declares and the string below it."""
    try:
        source = inspect.getsource(cls)
    except OSError:
        return  # A class made by a program has no source.
    (tree,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(tree, ast.ClassDef)
    for pair in itertools.pairwise(tree.body):
        match pair:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                yield name, inspect.cleandoc(text)


@dataclass(frozen=True)
class FieldValue:
    """One value of a spec, with its place and what it is for."""

    path: str
    """Dotted, as in `optimizer.lr`; items of lists of mappings are counted: `sources.0.url`."""
    value: Any
    """As JSON."""
    role: str
    """`identity`, `runtime`, `cosmetic`, or `location` for a local path, whose bytes count."""


def field_values(spec: Spec, path: str = "", role: str = "identity") -> Iterator[FieldValue]:
    """Every value of a spec, defaults included, None left out; parts inherit their role."""
    for name, info in type(spec).model_fields.items():
        extra = info.json_schema_extra
        own = extra.get(ROLE, "identity") if isinstance(extra, dict) else "identity"
        below = f"{path}.{info.alias or name}" if path else info.alias or name
        inner = str(own) if role == "identity" else role
        yield from _values_of(getattr(spec, name), below, inner)


def _values_of(value: Any, path: str, role: str) -> Iterator[FieldValue]:
    if isinstance(value, Spec) and not value.is_scalar:
        yield from field_values(value, path, role)
    elif isinstance(value, Spec):
        yield FieldValue(path, str(value), role)
    elif isinstance(value, LocalPath):
        yield FieldValue(path, str(value), "location")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _values_of(item, f"{path}.{key}", role)
    elif isinstance(value, (tuple, list)) and any(isinstance(item, Spec) for item in value):
        for index, item in enumerate(value):
            yield from _values_of(item, f"{path}.{index}", role)
    elif value is not None:
        yield FieldValue(path, _plain(_identity_of(value)), role)


class LocalPath(str):
    """A path, relative to the experiment folder unless absolute.

    In YAML a relative path is relative to the file that says it; the loader passes that file's
    folder and the experiment's as validation context.
    """

    __slots__ = ()

    def resolve(self, experiment_folder: Path) -> Path:
        """The place on this machine; a name that YAML cannot hold is spelled as in records."""
        spelled = experiment_folder / unescape_name(self)
        return spelled if spelled.exists() else experiment_folder / self

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._parse,
            serialization=core_schema.simple_ser_schema("str"),
            json_schema_input_schema=core_schema.str_schema(min_length=1),
        )

    @classmethod
    def _parse(cls, value: Any, info: ValidationInfo) -> "LocalPath":
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "Input should be a path")
        if not value or "\0" in value:
            raise PydanticCustomError("path_empty", "a path may not be empty or hold NUL")
        said_in = getattr(value, "said_in", None)
        folder = (info.context or {}).get("folder")
        try:
            text = Path(value).expanduser().as_posix()
        except RuntimeError:  # nobody of that name, or no home
            message = "'{path}' begins with ~, and there is no such home folder"
            raise PydanticCustomError("path_home", message, {"path": str(value)}) from None
        if said_in is not None and folder is not None and not Path(text).is_absolute():
            text = Path(os.path.relpath(said_in / text, folder)).as_posix()
        return cls(encodable(text))


class Ref(str, Generic[ArtifactT]):
    """The name of another stage whose artifact is an `ArtifactT`.

    Of a training stage's checkpoints `name@step-500` selects one by its step, `name@best` the one
    with the lowest `val_loss`, and `name@best:val_loss/tokens` by another metric.
    """

    __slots__ = ("expects",)
    expects: type[Artifact]

    @property
    def stage(self) -> str:
        """The stage's name, without the selector."""
        return self.partition("@")[0]

    @property
    def selector(self) -> str:
        """`final`, `step-N`, `best` or `best:METRIC`."""
        return self.partition("@")[2] or FINAL

    @property
    def step(self) -> int | None:
        """The step that is said; None for the final checkpoint and for the best."""
        kind, _, number = self.selector.partition("-")
        return int(number) if kind == "step" else None

    @property
    def metric(self) -> str | None:
        """By which the best checkpoint is selected; None when the best is not asked for."""
        kind, _, metric = self.selector.partition(":")
        return (metric or VALIDATION_LOSS) if kind == BEST else None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        (expects,) = get_args(source) or (Artifact,)

        def parse(value: Any) -> "Ref[ArtifactT]":
            if not isinstance(value, str):
                raise PydanticCustomError("ref_type", "Input should be the name of a stage")
            ref: Ref[ArtifactT] = cls(value)
            ref.expects = expects
            _, sign, selector = value.partition("@")
            if sign and not _SELECTOR.fullmatch(selector):
                raise PydanticCustomError(
                    "ref_selector",
                    "unknown selector '@{selector}'; use '@final', '@best' or '@step-N'",
                    {"selector": selector, "suggestion": _suggest_selector(ref)},
                )
            return ref

        return core_schema.no_info_plain_validator_function(
            parse,
            serialization=core_schema.simple_ser_schema("str"),
            json_schema_input_schema=core_schema.str_schema(
                pattern=rf"^[a-z][a-z0-9_-]*(@({_SELECTOR.pattern}))?$"
            ),
        )


def canonicalize(value: Any) -> Any:
    """A value of a free-form field whose whole floats are integers: `1.0` and `1` are one number.

    Fields with a type of their own need it not: theirs decides.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (tuple, list)):
        return [canonicalize(item) for item in value]
    if isinstance(value, dict):
        return {key: canonicalize(item) for key, item in value.items()}
    return value


def _suggest_selector(ref: Ref[Any]) -> str | None:
    """The reference as it was probably meant; None when that is not clear."""
    number = re.search(r"[1-9][0-9]*", ref.selector)
    meant = f"step-{number[0]}" if number else closest(ref.selector, (FINAL, BEST))
    return f"{ref.stage}@{meant}" if meant else None


def _identity_of(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.identity()
    if isinstance(value, LocalPath):
        return None
    if isinstance(value, str):
        return value if isinstance(value, Ref) else str(value)
    if isinstance(value, (tuple, list)):
        return [_identity_of(item) for item in value]
    if isinstance(value, dict):
        keys = (key if isinstance(key, Ref) else str(key) for key in value)
        return dict(zip(keys, map(_identity_of, value.values()), strict=True))
    return value


def _made_from(spec: Spec) -> Iterator[str]:
    """The references in fields that are part of the identity."""
    for name, info in type(spec).model_fields.items():
        extra = info.json_schema_extra
        if not isinstance(extra, dict) or extra.get(ROLE, "identity") == "identity":
            value = getattr(spec, name)
            found = _made_from(value) if isinstance(value, Spec) else _strings(value)
            yield from found


def _strings(value: Any) -> Iterator[str]:
    return (str(ref) for _, ref in _find_refs(value, ()))


def _plain(value: Any) -> Any:
    """A value of an identity with references as the texts they are."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Ref) else value


def _find_refs(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[Any, Ref[Any]]]:
    if isinstance(value, Ref):
        yield path, value
    elif isinstance(value, Spec):
        for name, info in type(value).model_fields.items():
            yield from _find_refs(getattr(value, name), (*path, info.alias or name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find_refs(key, (*path, str(key)))
            yield from _find_refs(item, (*path, str(key)))
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from _find_refs(item, (*path, index))
