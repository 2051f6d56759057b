"""The building blocks of a spec: strict models, local paths, references.

Identity. Every field is part of a stage's identity (and so of its fingerprint) unless it is
declared with `runtime_field` (how the work is done) or `cosmetic_field` (for readers only), or is
a local path (its content counts, see `Stage.local_inputs`). A field that is None is not in the
payload, so a later release may add an optional field without invalidating old runs.
"""

import ast
import inspect
import itertools
import os.path
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from continuum.experiment.url import Url
from continuum.runs.artifacts import BEST, FINAL, VALIDATION_LOSS, Artifact, ArtifactT
from continuum.runs.file_names import encodable, unescape_name
from continuum.suggestions import closest

ROLE = "x-continuum-role"
"""In a field's JSON Schema: `identity`, `runtime` or `cosmetic`."""
UNIT = "x-continuum-unit"
"""In a field's JSON Schema: the unit of its number."""
DEFINITION = "x-continuum-definition"
"""In a JSON Schema that Pydantic repeats wherever it is used: the name of its definition."""
_SELECTOR = re.compile(r"final|best(:[a-z0-9_/-]+)?|step-[1-9][0-9]*")


def runtime_field(default: Any, **kwargs: Any) -> Any:
    """A field that sets how the work is done; it does not change the result."""
    return Field(default, json_schema_extra={ROLE: "runtime"}, **kwargs)


def cosmetic_field(default: Any, **kwargs: Any) -> Any:
    """A field for readers only."""
    return Field(default, json_schema_extra={ROLE: "cosmetic"}, **kwargs)


def whole_number(value: Any) -> Any:
    """Convert a float without a fraction, as YAML reads `1e3`; leave others to the type check."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole_number)
"""In the type of an integer, after its bounds."""
Integer = Annotated[int, WHOLE]
"""A whole number: `1000` or `1e3`."""
Precision = Literal["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed"]


class Spec(BaseModel):
    """A part of the document: strict, closed and frozen.

    Pydantic could collect the docstrings of fields when a class is created, but would read every
    source file: a sixth of a short command's time. `field_docs` reads them on demand.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)

    is_scalar: ClassVar[bool] = False
    """True if it is written and shown as one word, which `str()` returns."""

    @classmethod
    def meant_by(cls, value: Any) -> Mapping[str, Any] | None:  # noqa: ARG003  # for subclasses
        """The mapping that a value in its place most likely means, for error messages.

        None if it is one of the fields: `cosine` is a `kind`.
        """
        return None

    def identity(self) -> dict[str, Any]:
        """The fields that determine the result, with defaults and without None.

        References stay `Ref`s: their names are not identity, see `continuum.experiment.identity`.
        URLs stay `Url`s: a credential that is written out is identity, but not recorded.
        """
        payload = {}
        for name, info in type(self).model_fields.items():
            value = _identity_of(getattr(self, name))
            if _role_of(info) == "identity" and value is not None:
                payload[info.alias or name] = value
        return payload

    def refs(self) -> dict[tuple[str | int, ...], "Ref[Any]"]:
        """All references in the fields, by their place in YAML."""
        return self._refs

    def urls(self) -> Iterator[Url]:
        """All URLs in the fields."""
        return _find_urls(self)

    def observed_refs(self) -> frozenset[str]:
        """The references that occur only in runtime fields: inputs that do not change the
        result."""
        made_from = {str(ref) for _, ref, role in _find_refs(self) if role == "identity"}
        return frozenset(map(str, self.refs().values())) - made_from

    @cached_property
    def _refs(self) -> dict[tuple[str | int, ...], "Ref[Any]"]:
        return {path: ref for path, ref, _ in _find_refs(self)}


MAPPING, VALUE = "[mapping]", "[value]"
"""Tags of a field that takes a mapping or a single value."""
BY_FORM = Discriminator(lambda value: MAPPING if isinstance(value, (dict, Spec)) else VALUE)
"""Chooses between them. The brackets distinguish tags from keys in the paths of errors."""


@cache
def field_docs(cls: type[Spec]) -> Mapping[str, str]:
    """The docstrings of a model's fields, including inherited ones, by their names in YAML."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Spec) and base is not Spec:
            found |= _docs_in(base)
    fields = cls.model_fields.items()
    return {info.alias or name: found[name] for name, info in fields if name in found}


def _docs_in(cls: type[Spec]) -> Iterator[tuple[str, str]]:
    """The fields that a class declares itself, with the strings below them."""
    try:
        source = inspect.getsource(cls)
    except OSError:
        return  # A generated class has no source.
    (tree,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(tree, ast.ClassDef)
    for pair in itertools.pairwise(tree.body):
        match pair:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                yield name, inspect.cleandoc(text)


@dataclass(frozen=True)
class FieldValue:
    """One value of a spec, with its path and role."""

    path: str
    """Dotted, as in `optimizer.lr`; items of lists are numbered: `sources.0.url`."""
    value: Any
    """As JSON."""
    role: str
    """`identity`, `runtime`, `cosmetic`, or `location` for a local path, whose content counts."""


def field_values(
    spec: Spec, path: str = "", role: str = "identity", names: Collection[str] | None = None
) -> Iterator[FieldValue]:
    """All values of a spec, with defaults and without None; nested specs inherit the role.

    Args:
        names: Only the values of these fields and below them.
    """
    for name, info in type(spec).model_fields.items():
        own = info.alias or name
        if names is None or own in names:
            below = f"{path}.{own}" if path else own
            yield from _values_of(getattr(spec, name), below, _role_of(info, role))


def _role_of(info: FieldInfo, above: str = "identity") -> str:
    """The role of a field below a part with the role `above`."""
    extra = info.json_schema_extra
    own = str(extra.get(ROLE, "identity")) if isinstance(extra, dict) else "identity"
    return own if above == "identity" else above


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

    In YAML, a relative path is relative to the file that contains it; the loader passes that file's
    folder and the experiment's as validation context.
    """

    __slots__ = ()

    def resolve(self, experiment_folder: Path) -> Path:
        """The path on this machine; a name that YAML cannot hold is escaped as in records."""
        spelled = experiment_folder / unescape_name(self)
        is_there = os.path.exists(spelled)  # noqa: PTH110  # which never raises
        return spelled if is_there else experiment_folder / self

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
            raise PydanticCustomError("path_empty", "a path must not be empty or contain NUL")
        said_in = getattr(value, "said_in", None)
        folder = (info.context or {}).get("folder")
        try:
            text = Path(value).expanduser().as_posix()
        except RuntimeError:  # unknown user, or no home folder
            message = "home folder of '{path}' not found"
            raise PydanticCustomError("path_home", message, {"path": str(value)}) from None
        if said_in is not None and folder is not None and not Path(text).is_absolute():
            text = Path(os.path.relpath(said_in / text, folder)).as_posix()
        return cls(encodable(text))


class Ref(str, Generic[ArtifactT]):
    """The name of another stage whose artifact is an `ArtifactT`.

    `name@step-500` selects a training checkpoint by its step, `name@best` the one with the lowest
    `val_loss`, and `name@best:val_loss/tokens` by another metric.
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
        """The selected step; None for the final and the best checkpoint."""
        kind, _, number = self.selector.partition("-")
        return int(number) if kind == "step" else None

    @property
    def metric(self) -> str | None:
        """The metric of `@best`; None for other selectors."""
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


class OneOrMore:
    """Annotates a tuple: a single word is a list of one."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(cls._listed, handler(source))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        listed = handler(schema)
        return {"anyOf": [listed["items"], listed]}

    @staticmethod
    def _listed(value: Any) -> Any:
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value  # as a record has it


def canonicalize(value: Any) -> Any:
    """The canonical form of a free-form value: whole floats become integers (`1.0` is `1`).

    Typed fields do not need it.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (tuple, list)):
        return [canonicalize(item) for item in value]
    if isinstance(value, dict):
        return {key: canonicalize(item) for key, item in value.items()}
    return value


def _suggest_selector(ref: Ref[Any]) -> str | None:
    """The likely intended reference; None if unclear."""
    number = re.search(r"[1-9][0-9]*", ref.selector)
    meant = f"step-{number[0]}" if number else closest(ref.selector, (FINAL, BEST))
    return f"{ref.stage}@{meant}" if meant else None


def _identity_of(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.identity()
    if isinstance(value, LocalPath):
        return None
    if isinstance(value, str):
        return value if isinstance(value, (Ref, Url)) else str(value)
    if isinstance(value, (tuple, list)):
        return [_identity_of(item) for item in value]
    if isinstance(value, dict):
        keys = (key if isinstance(key, Ref) else str(key) for key in value)
        return dict(zip(keys, map(_identity_of, value.values()), strict=True))
    return value


def _plain(value: Any) -> Any:
    """A value of an identity with references and URLs as strings."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, (Ref, Url)) else value


def _find_urls(value: Any) -> Iterator[Url]:
    if isinstance(value, Url):
        yield value
    elif isinstance(value, Spec):
        for name in type(value).model_fields:
            yield from _find_urls(getattr(value, name))
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _find_urls(item)


def _find_refs(
    value: Any, path: tuple[str | int, ...] = (), role: str = "identity"
) -> Iterator[tuple[tuple[str | int, ...], Ref[Any], str]]:
    if isinstance(value, Ref):
        yield path, value, role
    elif isinstance(value, Spec):
        for name, info in type(value).model_fields.items():
            below = (*path, info.alias or name)
            yield from _find_refs(getattr(value, name), below, _role_of(info, role))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find_refs(key, (*path, str(key)), role)
            yield from _find_refs(item, (*path, str(key)), role)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from _find_refs(item, (*path, index), role)
