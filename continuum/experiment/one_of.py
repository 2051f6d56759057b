"""A model with several forms, such as an optimizer: its name chooses the other fields."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import (
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
)
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from continuum.experiment.fields import DEFINITION, Spec, field_docs


class OneOf(Spec):
    """A model with several forms, chosen by the value of one field and created on first use.

    Only given fields are serialized, because each form has many.
    """

    chosen_by: ClassVar[str | None] = None
    """The field whose value names the form; None if there is only one form."""

    @classmethod
    @abstractmethod
    def forms(cls) -> Mapping[str, type[Self]]:
        """The forms by name."""

    @classmethod
    def form_of(cls, value: Mapping[str, Any]) -> type[Self] | None:
        """The form of a mapping; None if the name is unknown."""
        if cls.chosen_by is None:
            return next(iter(cls.forms().values()))
        name = value.get(cls.chosen_by, cls.model_fields[cls.chosen_by].default)
        return cls.forms().get(name) if isinstance(name, str) else None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if OneOf not in cls.__bases__:  # a form
            return handler(source)
        return core_schema.with_info_plain_validator_function(cls._parse)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The fields of all forms in one mapping; fields of some forms name them."""
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
        # Lists in a record are tuples here.
        return form.model_validate(tuples_of(value), context=info.context)

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        given = self.model_fields_set
        dumped = handler(self).items()
        return {name: value for name, value in dumped if name in given or value is not None}


def tuples_of(value: Any) -> Any:
    """A JSON value with tuples instead of lists, as strict models require."""
    if isinstance(value, dict):
        return {key: tuples_of(item) for key, item in value.items()}
    return tuple(map(tuples_of, value)) if isinstance(value, (list, tuple)) else value
