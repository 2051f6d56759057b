"""Trains a byte-level BPE tokenizer in the layout that LitGPT's `Tokenizer` loads.

Byte-level: the alphabet is all 256 bytes, so every text can be encoded and decoded exactly. The
pre-tokenizer is GPT-2's. Training is deterministic: the trainer's order of merges is total, and the
files are sorted.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from continuum.runs.files import write_json, write_text


def train_bpe(
    texts: Iterable[str],
    folder: Path,
    *,
    vocab_size: int,
    min_frequency: int,
    bos_token: str,
    eos_token: str,
    special_tokens: Sequence[str] = (),
) -> int:
    """Write `tokenizer.json` and `tokenizer_config.json`; return the number of ids.

    `texts` are consumed one by one; memory holds the table of distinct words.
    """
    tokenizer = untrained_bpe()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(dict.fromkeys((bos_token, eos_token, *special_tokens))),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    config = {
        "add_prefix_space": False,
        "bos_token": bos_token,
        "clean_up_tokenization_spaces": False,
        "eos_token": eos_token,
        "model_max_length": 10**30,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(folder / "tokenizer_config.json", config)
    return tokenizer.get_vocab_size(with_added_tokens=True)


def untrained_bpe() -> Tokenizer:
    """A byte-level BPE without tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
