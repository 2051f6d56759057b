"""Which models use one matrix both as the embedding and as the output layer.

LitGPT's `Config` does not say: it builds two matrices and its converter fills both, so that
training would separate what is one tensor in the model on the Hub. The Hub's `config.json` says it;
for a model without one, this module lists LitGPT's names of tied models.
"""

import json
from pathlib import Path

CONFIG_JSON = "config.json"
KEY = "tie_word_embeddings"
TIED_TYPES = frozenset({"falcon", "gemma", "gemma2", "gemma3", "gemma3_text"})
"""`model_type`s that LitGPT supports and transformers ties unless `config.json` says otherwise."""
TIED_NAMES = frozenset(
    {
        *("falcon-7b", "falcon-7b-instruct", "falcon-40b", "falcon-40b-instruct"),
        *("falcon-180B", "falcon-180B-chat"),
        *("Llama-3.2-1B", "Llama-3.2-1B-Instruct", "Llama-3.2-3B", "Llama-3.2-3B-Instruct"),
        "OLMo-1B-hf",
        *("Gemma-2b", "Gemma-2b-it", "Gemma-7b", "Gemma-7b-it", "CodeGemma-7b-it"),
        *("Gemma-2-2b", "Gemma-2-2b-it", "Gemma-2-9b", "Gemma-2-9b-it"),
        *("Gemma-2-27b", "Gemma-2-27b-it"),
        *("Gemma-3-1b-it", "Gemma-3-4b-it", "Gemma-3-12b-it", "Gemma-3-27b-it"),
        *("Phi-4-mini-instruct", "Phi-4-mini-reasoning"),
        *("Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct", "Qwen2.5-1.5B", "Qwen2.5-1.5B-Instruct"),
        *("Qwen2.5-3B", "Qwen2.5-3B-Instruct"),
        *("Qwen2.5-Coder-0.5B", "Qwen2.5-Coder-0.5B-Instruct"),
        *("Qwen2.5-Coder-1.5B", "Qwen2.5-Coder-1.5B-Instruct"),
        *("Qwen2.5-Coder-3B", "Qwen2.5-Coder-3B-Instruct"),
        *("Qwen2.5-Math-1.5B", "Qwen2.5-Math-1.5B-Instruct"),
        *("Qwen3-0.6B", "Qwen3-0.6B-Base", "Qwen3-1.7B", "Qwen3-1.7B-Base"),
        *("Qwen3-4B", "Qwen3-4B-Base", "Qwen3-4B-Thinking-2507", "Qwen3-4B-Instruct-2507"),
        *("SmolLM2-135M", "SmolLM2-135M-Instruct", "SmolLM2-360M", "SmolLM2-360M-Instruct"),
        *("SmolLM2-1.7B", "SmolLM2-1.7B-Instruct"),
    }
)
"""LitGPT's names of models that are tied by their `config.json` on the Hub or by such a default."""


def tied_on_hub(config_name: str, folder: Path | None = None) -> bool:
    """Whether a model is tied: by the `config.json` in a folder, else by LitGPT's name."""
    tied = tied_in(folder / CONFIG_JSON) if folder is not None else None
    return config_name in TIED_NAMES if tied is None else tied


def tied_in(config_json: Path) -> bool | None:
    """Whether a `config.json` ties the embeddings; None if it is missing or unreadable."""
    try:
        config = json.loads(config_json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    text = config.get("text_config")  # of a multimodal model
    for part in (config, text if isinstance(text, dict) else {}):
        if isinstance(part.get(KEY), bool):
            return bool(part[KEY])
    model_type = config.get("model_type")
    return model_type in TIED_TYPES if isinstance(model_type, str) else None
