"""LitGPT's model configs, read without importing torch.

`litgpt/config.py` is standalone on purpose ("so that users can import this file … in Python
environments which do not include all the dependencies"), but `import litgpt` does not. The plan
needs names, block sizes, vocabularies and parameter counts in milliseconds, so only that file is
loaded here. Training uses the real `litgpt.Config`.
"""

import importlib.util
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from continuum.runs.tied_embeddings import tied_on_hub
from continuum.suggestions import closest

_EMBEDDING = "transformer.wte.weight"
_LAYER = re.compile(r"transformer\.h\.(\d+)\.")


@dataclass(frozen=True)
class Architecture:
    """A model's shape: the fields of LitGPT's `Config`, and whether embeddings are tied."""

    fields: dict[str, Any]
    tied: bool = False
    """Whether the embedding and the output layer share one tensor."""

    @property
    def name(self) -> str:
        return str(self.fields["name"])

    @property
    def block_size(self) -> int:
        """The longest sequence the model can attend to, in tokens."""
        return int(self.fields["block_size"])

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: every token id must be below it."""
        return int(self.fields["padded_vocab_size"])

    def num_parameters(self) -> int | None:
        """Number of trainable parameters; None for unsupported shapes.

        Counts LitGPT's `GPT` as its modules are built (`litgpt/model.py`); tests compare it with
        the real model for LitGPT's configs.
        """
        if not _is_counted(self.fields):
            return None
        return _count_parameters(self.fields) - self.tied * self.embedding_size

    def mismatch(self, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
        """How stored weights differ from this model in embedding, layers or parameters, if they do.

        Args:
            shapes: Of the tensors by LitGPT's names.
        """
        embedding = next((it for name, it in shapes.items() if name.endswith(_EMBEDDING)), None)
        if embedding is None:
            return f"it has no tensor {_EMBEDDING}"
        layers = {found[1] for name in shapes if (found := _LAYER.search(name))}
        number = sum(map(math.prod, shapes.values()))
        shape = (self.padded_vocab_size, int(self.fields["n_embd"]))
        for words, there, stated in (
            ("an embedding of {}", embedding, shape),
            ("{} layers", (len(layers),), (int(self.fields["n_layer"]),)),
            ("{} parameters", (number,), (Architecture(self.fields).num_parameters(),)),
        ):
            if None not in stated and there != stated:
                own, other = (" x ".join(f"{it:,}" for it in size) for size in (there, stated))
                return f"it has {words.format(own)}, but {self.name} has {other}"
        return None

    @property
    def embedding_size(self) -> int:
        """Number of parameters of the embedding."""
        return int(self.fields["n_embd"]) * self.padded_vocab_size

    def training_flops_per_token(self, sequence_length: int) -> int | None:
        """Floating-point operations of forward and backward per token; None for unsupported shapes.

        Forward, a weight of a matrix takes a multiplication and an addition; attention takes as
        many for each number in queries times keys and in scores times values, which is
        `4 · sequence_length · n_head · head_size` a layer, the causal half not deducted. Backward
        costs twice the forward: gradients of the inputs and of the weights. So Kaplan et al. 2020
        (arXiv:2001.08361, table 1) and the appendix B of PaLM (arXiv:2204.02311) count.
        """
        c = self.fields
        if not _is_counted(c):
            return None
        matrices = c["n_layer"] * _weights_per_block(c) + c["n_embd"] * c["padded_vocab_size"]
        attention = 4 * sequence_length * c["n_layer"] * c["n_head"] * c["head_size"]
        return int(3 * (2 * matrices + attention))


class IncompatibleFieldsError(ValueError):
    """Incompatible values of a model's fields."""

    def __init__(self, why: str, *fields: str) -> None:
        super().__init__(why)
        self.fields = fields
        """The incompatible fields, most likely culprit first."""


def model_names() -> tuple[str, ...]:
    """LitGPT's names of its configs."""
    return tuple(_config_module().name_to_config)


@cache
def accepted_model_names() -> frozenset[str]:
    """All names that `architecture` accepts: LitGPT's, and the Hub's with and without owner."""
    configs = _config_module().configs
    on_hub = [config["hf_config"] for config in configs]
    plain = (hub["name"] for hub in on_hub)
    full = (f"{hub['org']}/{hub['name']}" for hub in on_hub)
    return frozenset((*model_names(), *plain, *full))


def architecture(
    name: str, overrides: dict[str, Any] | None = None, *, tied: bool | None = None
) -> Architecture:
    """The architecture of a LitGPT config with overridden fields.

    Args:
        tied: Whether its embeddings are tied; None for as in the model of this name on the Hub.

    Raises:
        ValueError: the name or a field is unknown.
        IncompatibleFieldsError: the values are incompatible.
    """
    module = _config_module()
    try:
        base = module.Config.from_name(name)
    except ValueError:
        raise ValueError(f"LitGPT has no model {name!r}") from None
    overrides = dict(overrides or {})
    known = module.Config.__dataclass_fields__
    for key in overrides:
        if key not in known or key in {"name", "hf_config"}:
            raise ValueError(f"LitGPT's model config has no field {key!r}")
    overrides = {key: _as_kept(getattr(base, key), value) for key, value in overrides.items()}
    derived = {} if not overrides else _fields_to_derive_again(base, overrides)
    try:
        config = module.Config.from_name(name, **{**derived, **overrides})
    except (AssertionError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _explain(error, {**asdict(base), **derived, **overrides}) from None
    return Architecture(asdict(config), tied_on_hub(config.name) if tied is None else tied)


def model_identity(name: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """The canonical form of a model: LitGPT's name of the config, and all fields that differ from
    it, including derived ones.

    Raises:
        ValueError: as `architecture`.
    """
    base, made = architecture(name).fields, architecture(name, overrides).fields
    return {"name": base["name"], **{k: v for k, v in made.items() if v != base[k]}}


def _as_kept(usual: Any, value: Any) -> Any:
    """A value in the type of LitGPT's configs, so that `1` and `1.0` are equal."""
    return float(value) if type(usual) is float and type(value) is int else value


def config_fields() -> dict[str, Any]:
    """The fields of LitGPT's `Config` that may be overridden, with their types."""
    fields = _config_module().Config.__dataclass_fields__
    return {name: it.type for name, it in fields.items() if name not in {"name", "hf_config"}}


def suggest_model(name: str) -> str | None:
    """The LitGPT config name closest to `name`."""
    return closest(name, model_names())


def read_architecture(model_config: Path, *, tied: bool | None = None) -> Architecture:
    """The architecture in a checkpoint's `model_config.yaml`.

    Args:
        tied: Whether its embeddings are tied; None for as in a `config.json` beside it, or in the
            model of this name on the Hub.
    """
    config = _config_module().Config.from_file(model_config)
    if tied is None:
        tied = tied_on_hub(config.name, model_config.parent)
    return Architecture(asdict(config), tied)


@cache
def _config_module() -> ModuleType:
    package = importlib.util.find_spec("litgpt")
    assert package is not None, "litgpt is a dependency"
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "config.py"
    spec = importlib.util.spec_from_file_location("continuum._litgpt_config", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _fields_to_derive_again(base: Any, overrides: dict[str, Any]) -> dict[str, Any]:
    """Fields of the named config that an override makes stale, set to None to derive them again.

    `Config.from_name(name, vocab_size=…)` alone keeps the old `padded_vocab_size`, and
    `n_embd=…` the old `intermediate_size` and `head_size`.
    """
    stale: dict[str, Any] = {}
    if "vocab_size" in overrides:
        stale["padded_vocab_size"] = None
    if overrides.keys() & {"n_embd", "n_head"}:
        stale["head_size"] = None
        if base.n_query_groups == base.n_head:
            stale["n_query_groups"] = None
    if "n_embd" in overrides and base.intermediate_size == 4 * base.n_embd:
        stale["intermediate_size"] = None
    return stale


def _explain(error: Exception, fields: dict[str, Any]) -> IncompatibleFieldsError:
    if str(error):
        return IncompatibleFieldsError(str(error))
    width, heads, groups = fields["n_embd"], fields["n_head"], fields["n_query_groups"]
    if fields["head_size"] is None and width % heads:
        why = f"n_embd must be a multiple of n_head: {width:,} is not a multiple of {heads:,}"
        return IncompatibleFieldsError(why, "n_embd", "n_head")
    if groups is not None and heads % groups:
        why = (
            "n_head must be a multiple of n_query_groups: "
            f"{heads:,} is not a multiple of {groups:,}"
        )
        return IncompatibleFieldsError(why, "n_query_groups", "n_head")
    return IncompatibleFieldsError("the values of the model fields are incompatible")


def _is_counted(c: dict[str, Any]) -> bool:
    return not c["n_expert"] and c["latent_attention"] is None


def _count_parameters(c: dict[str, Any]) -> int:
    n_embd, bias = c["n_embd"], int(c["bias"])
    affine_norms = c["norm_class_name"] != "LayerNorm" or "OLMo" not in c["name"]
    norm = n_embd * (2 if c["norm_class_name"] == "LayerNorm" else 1) if affine_norms else 0
    norms_per_block = (
        int(c["norm_1"])
        + int(c["norm_2"] and not c["shared_attention_norm"])
        + int(c["post_attention_norm"])
        + int(c["post_mlp_norm"])
    )
    biases = _qkv_size(c) * int(c["bias"] or c["attn_bias"]) + n_embd * bias
    biases += _num_up_projections(c) * c["intermediate_size"] * bias + n_embd * bias
    if c["norm_qk"]:
        is_wide = c["norm_qk_type"] == "olmo2"
        biases += c["head_size"] * (c["n_head"] if is_wide else 1)
        biases += c["head_size"] * (c["n_query_groups"] if is_wide else 1)
    head = n_embd * c["padded_vocab_size"] + c["padded_vocab_size"] * int(c["lm_head_bias"])
    embedding = n_embd * c["padded_vocab_size"]
    block = norm * norms_per_block + _weights_per_block(c) + biases
    return int(c["n_layer"] * block + norm + head + embedding)


def _weights_per_block(c: dict[str, Any]) -> int:
    attention = c["n_embd"] * (_qkv_size(c) + c["head_size"] * c["n_head"])
    mlp = c["n_embd"] * c["intermediate_size"] * (_num_up_projections(c) + 1)
    return int(attention + mlp)


def _qkv_size(c: dict[str, Any]) -> int:
    return int((c["n_head"] + 2 * c["n_query_groups"]) * c["head_size"])


def _num_up_projections(c: dict[str, Any]) -> int:
    return 1 if c["mlp_class_name"] == "GptNeoxMLP" else 2
