"""A real tokenizer, a small model, and a Hub with a clean environment around it."""

import json
import pydoc_data
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.servers.hub import HubServer, serve_hub

HUB_VARIABLES = (
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "HUGGINGFACE_HUB_CACHE",
    "HUGGING_FACE_HUB_TOKEN",
    "TRANSFORMERS_OFFLINE",
)


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE of 512 ids, trained on the standard library's help texts."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = (Path(pydoc_data.__path__[0]) / "topics.py").read_text(encoding="utf-8")
    tokenizer.train_from_iterator([text[:200_000]], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "GPTNeoXTokenizer", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty Hub that HF_ENDPOINT leads to, with an empty cache."""
    for name in HUB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "hub"
    root.mkdir()
    with serve_hub(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with `lit_model.pth` and `model_config.yaml` of a one-layer pythia."""
    import torch
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.utils import save_config

    folder = tmp_path / "model"
    folder.mkdir()
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 32, "intermediate_size": 32}
    vocabulary = {"vocab_size": 512, "padded_vocab_size": 512}
    config = Config.from_name("pythia-14m", **sizes, **vocabulary)
    torch.manual_seed(0)
    torch.save(GPT(config).state_dict(), folder / "lit_model.pth")
    save_config(config, folder)
    return folder
