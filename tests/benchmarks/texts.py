"""Texts of any size and a tokenizer: real books and Pythia's where they are at hand, else made."""

import random
from collections.abc import Iterator
from pathlib import Path

from continuum.text.bpe import train_bpe
from tests.benchmarks.commands import ROOT
from tests.text.samples import books

DATA = ROOT.parent / "shared" / "data"
PYTHIA_TOKENIZER = DATA / "pythia-tokenizer"
NEW_WORD_EVERY = 7
"""Lines between two words never seen before: 100 MB of them have a quarter of a million, about
what English has by Heaps' law. Books alone, repeated, would all be in a tokenizer's cache."""
SYLLABLES = ("ba", "den", "ri", "mo", "tal", "ke", "su", "von", "li", "gra", "pe", "shu", "on")


def write_text(path: Path, size_bytes: int, *, seed: int = 0) -> None:
    """Books over and over, with new words throughout, in a file of about this size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for text in _texts(random.Random(seed)):
            written += file.write(text)
            if written >= size_bytes:
                return


def tokenizer_folder(work_dir: Path) -> Path:
    """Pythia's tokenizer, or one made here of the same size where it is absent."""
    if PYTHIA_TOKENIZER.is_dir():
        return PYTHIA_TOKENIZER
    folder = work_dir / "tokenizer"
    folder.mkdir()
    train_bpe(
        books(),
        folder,
        vocab_size=50_000,
        min_frequency=2,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )
    return folder


def _texts(draw: random.Random) -> Iterator[str]:
    # LitGPT's TextFiles reads any line end as "\n".
    lines = [line for book in books() for line in book.splitlines()]
    while True:
        shift = draw.randrange(NEW_WORD_EVERY)
        for number in range(shift, len(lines), NEW_WORD_EVERY):
            word = "".join(draw.choices(SYLLABLES, k=draw.randint(2, 6)))
            yield "\n".join((*lines[number : number + NEW_WORD_EVERY], f"{word}.\n"))
