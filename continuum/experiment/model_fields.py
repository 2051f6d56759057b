"""The fields of LitGPT's `Config` that a spec may override, as a model made from its dataclass.

LitGPT checks neither types nor ranges and looks up classes by name, so that a typo would only fail
when torch builds the model.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, PlainValidator, Tag, create_model
from pydantic_core import CoreSchema, PydanticCustomError

from continuum.experiment.architecture import accepted_model_names, config_fields, suggest_model
from continuum.experiment.fields import BY_FORM, DEFINITION, MAPPING, VALUE, WHOLE, Integer
from continuum.experiment.one_of import OneOf

_MEANINGS = {
    "block_size": "The longest sequence the model can attend to.",
    "n_layer": "Transformer blocks.",
    "n_embd": "Width of the residual stream; a multiple of `n_head`.",
    "n_head": "Attention heads.",
    "n_query_groups": "Heads of keys and values; fewer than `n_head` is grouped-query attention.",
    "head_size": "Width of an attention head; `n_embd / n_head` unless stated.",
    "intermediate_size": "Width of the MLP's inner layer.",
    "vocab_size": "Token ids of the tokenizer; the embedding is padded beyond it.",
    "padded_vocab_size": "Rows of the embedding; every token id must be below it.",
    "padding_multiple": "The embedding's rows are rounded up to a multiple of this.",
    "bias": "Whether linear layers have a bias.",
    "attn_bias": "Whether the projection to queries, keys and values has a bias of its own.",
    "lm_head_bias": "Whether the output layer has a bias.",
    "norm_class_name": "The class of the normalisation, `LayerNorm` or `RMSNorm`.",
    "norm_eps": "Added to the variance in normalisations, for numerical stability.",
    "mlp_class_name": "The class of the MLP, such as `GptNeoxMLP` or `LLaMAMLP`.",
    "parallel_residual": "Whether attention and MLP read the same input, side by side.",
    "rotary_percentage": "Share of a head's width that rotary embeddings turn.",
    "rope_base": "Base of the rotary embedding's frequencies.",
}
_SIZES = (
    "n_layer", "n_head", "n_embd", "n_query_groups", "head_size", "intermediate_size",
    "block_size", "vocab_size", "padded_vocab_size",
)  # fmt: skip
_LIMITS: dict[str, dict[str, Any]] = {
    **{name: {"ge": 1} for name in _SIZES},
    "norm_eps": {"gt": 0},
    "rope_base": {"gt": 0},
    "rotary_percentage": {"ge": 0, "le": 1},
}


def _known_name(value: Any) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("model_name_type", "Input should be the name of a LitGPT model")
    if value not in accepted_model_names():
        context = {"name": str(value), "suggestion": suggest_model(value)}
        raise PydanticCustomError("model_name", "LitGPT has no model '{name}'", context)
    return str(value)


class _Names:
    """Adds all names to the JSON Schema, defined once."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            DEFINITION: "LitGPTModel",
            "type": "string",
            "enum": sorted(accepted_model_names()),
            "errorMessage": "LitGPT has no model of this name",
        }


ModelName = Annotated[str, PlainValidator(_known_name), _Names()]
"""LitGPT's name of a model, or its name on the Hub with or without owner."""


class ModelFields(OneOf):
    """A LitGPT model with overridden config fields."""

    name: ModelName
    """The LitGPT config to start from."""
    tied: bool | None = None
    """Whether the embedding and the output layer share one tensor; default: as in the model of this
    name on the Hub."""

    @classmethod
    @cache
    def forms(cls) -> Mapping[str, type["ModelFields"]]:
        """The only form; LitGPT's config is read when a spec first overrides its fields."""
        made: dict[str, Any] = {
            name: (_strict(name, annotation), Field(None, description=_meaning(name)))
            for name, annotation in config_fields().items()
        }
        return {"LitGPT": create_model("LitGPTConfig", __base__=cls, __module__=__name__, **made)}

    @property
    def replaced(self) -> dict[str, Any]:
        """The overridden fields of LitGPT's config."""
        return {k: v for k, v in self.model_dump().items() if k not in ("name", "tied")}


LitGPTModel = Annotated[
    Annotated[ModelName, Tag(VALUE)] | Annotated[ModelFields, Tag(MAPPING)], BY_FORM
]
"""The name of a LitGPT model, or a mapping that overrides its fields."""


def _meaning(name: str) -> str:
    return _MEANINGS.get(name, f"LitGPT's `Config.{name}`.")


def _strict(name: str, annotation: Any) -> Any:
    """The type for a strict model with the field's limits; YAML lists are tuples there."""
    if annotation == list[int] | None:
        return tuple[Integer, ...] | None
    if annotation == dict | None:
        return dict[str, Any] | None
    limits = Field(**_LIMITS.get(name, {}))
    if annotation in (int, int | None):
        number = Annotated[int, limits, WHOLE]
        return number if annotation is int else number | None
    return Annotated[annotation, limits]
