"""The fields of LitGPT's `Config` that people replace: what they mean and what they may hold.

LitGPT checks neither types nor ranges and looks classes up by their names, so that a slip would
only show when torch builds the model.
"""

from typing import Any

from continuum.spelling import closest

_SIZES = (
    "n_layer", "n_head", "n_embd", "n_query_groups", "head_size", "intermediate_size",
    "block_size", "vocab_size", "padded_vocab_size",
)  # fmt: skip
"""Fields that count something, one at the least."""
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
"""What the fields of LitGPT's `Config` that people replace mean, for the JSON Schema."""
CHOICES = {
    "norm_class_name": ("LayerNorm", "RMSNorm"),
    "norm_qk_type": ("default", "olmo2"),
    "mlp_class_name": ("GptNeoxMLP", "LLaMAMLP", "GemmaMLP", "LLaMAMoE"),
}
"""Fields of which LitGPT knows these values; a test compares with it."""
_LIMITS: dict[str, tuple[str, dict[str, int]]] = {
    **dict.fromkeys(_SIZES, ("at least 1", {"minimum": 1})),
    "norm_eps": ("above 0", {"exclusiveMinimum": 0}),
    "rope_base": ("above 0", {"exclusiveMinimum": 0}),
    "rotary_percentage": ("a share from 0 to 1", {"minimum": 0, "maximum": 1}),
}
"""Ranges in words, and as the JSON Schema says them."""
_TYPES = {
    bool: ("boolean", "true or false"),
    int: ("integer", "a whole number"),
    float: ("number", "a number"),
    str: ("string", "text"),
}


def field_schema(name: str, usual: Any) -> dict[str, Any]:
    """The JSON Schema of a field, from the value that it usually has."""
    described: dict[str, Any] = {"description": _MEANINGS.get(name, f"LitGPT's `Config.{name}`.")}
    if name in CHOICES:
        return {**described, "enum": list(CHOICES[name])}
    if type(usual) in _TYPES:
        described["type"] = _TYPES[type(usual)][0]
    return described | (_LIMITS[name][1] if name in _LIMITS else {})


def wrong_value(name: str, value: Any, usual: Any) -> tuple[str, str | None] | None:
    """What is wrong with a field's value, and what was rather meant; None when it is right."""
    if type(usual) in _TYPES and not _is_like(usual, value):
        return f"{name} should be {_TYPES[type(usual)][1]}", None
    choices = CHOICES.get(name)
    if choices is not None and value not in choices:
        message = f"{name} should be one of {', '.join(choices)}, not {str(value)!r}"
        return message, closest(str(value), choices)
    if name in _LIMITS and isinstance(value, int | float):
        words, limits = _LIMITS[name]
        if not _is_within(value, limits):
            return f"{name} should be {words}, not {value:g}", None
    return None


def _is_like(usual: Any, value: Any) -> bool:
    if isinstance(usual, str):
        return isinstance(value, str)  # YAML's texts are a subclass
    return type(value) is type(usual) or (type(usual) is float and type(value) is int)


def _is_within(value: float, limits: dict[str, int]) -> bool:
    return (
        value >= limits.get("minimum", value)
        and value <= limits.get("maximum", value)
        and ("exclusiveMinimum" not in limits or value > limits["exclusiveMinimum"])
    )
