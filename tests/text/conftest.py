from pathlib import Path

import pytest

from continuum.text.bpe import train_bpe
from tests.text.samples import LOCAL_DATA, messy_text, prose

END = "<|endoftext|>"


@pytest.fixture(scope="session")
def trained_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small byte-level BPE that has merges over words and other scripts."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(
        (prose(), messy_text(5000, seed=9)),
        folder,
        vocab_size=3000,
        min_frequency=2,
        bos_token=END,
        eos_token=END,
    )
    return folder


@pytest.fixture(params=["trained", "published"])
def tokenizer_folder(request: pytest.FixtureRequest, trained_tokenizer: Path) -> Path:
    """The trained tokenizer, and Pythia's where it is at hand (the trained one again elsewhere)."""
    published = LOCAL_DATA / "pythia-tokenizer"
    if request.param == "published" and published.is_dir():
        return published
    return trained_tokenizer
