"""Token data from text: tokens per second and peak memory, against LitGPT's TextFiles."""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.commands import measure
from tests.benchmarks.rows import Row, Setting, benchmark
from tests.benchmarks.texts import tokenizer_folder, write_text

MB = 1_000_000
VALIDATION_BYTES = MB // 2


@dataclass(frozen=True)
class Sizes:
    """Bytes of text."""

    whole: int
    """What ours makes tokens of, and what the figures are for."""
    part: int
    """What LitGPT makes tokens of: it holds 130 to 190 bytes for each byte of text."""
    little: int
    """Where LitGPT's start is all that counts: between the two its cost is a line."""


FULL = Sizes(whole=100 * MB, part=20 * MB, little=MB)
QUICK = Sizes(whole=6 * MB, part=6 * MB, little=MB)


@dataclass(frozen=True)
class Making:
    """One making of token data by a process of its own."""

    size_bytes: int
    elapsed_s: float
    num_tokens: int
    peak_bytes: int


@benchmark("token-data")
def bench_token_data(setting: Setting) -> Sequence[Row]:
    """The tokenize stage, published, against `TextFiles.prepare_data`."""
    sizes = QUICK if setting.quick else FULL
    tokenizer = tokenizer_folder(setting.work_dir)
    texts = {size: _write_texts(setting.work_dir, size) for size in set(vars(sizes).values())}

    def make(which: str, size: int) -> Making:
        return _make(which, size, texts[size], tokenizer, setting.work_dir / "out")

    make("ours", sizes.little)  # A warm-up: the libraries' files.
    ours, theirs = [], []
    for _ in range(1 if setting.quick else 2):
        ours += [make("ours", sizes.whole)]
        part = make("litgpt", sizes.part)
        if sizes.part < sizes.whole:
            part = _extrapolated(make("litgpt", sizes.little), part, sizes.whole)
        theirs += [part]
        ours += [make("ours", sizes.whole)]
    return _rows(ours, theirs, sizes)


def _rows(ours: Sequence[Making], theirs: Sequence[Making], sizes: Sizes) -> list[Row]:
    what = f"token data of {sizes.whole // MB} MB of text"
    reference = "LitGPT TextFiles.prepare_data"
    note = f"LitGPT's of {sizes.whole // MB} MB by a line through {sizes.little // MB} and "
    note += f"{sizes.part // MB} MB"
    if sizes.part == sizes.whole:
        note = "little text: the proof of the tokenizer and the libraries outweigh it; see the full"
    return [
        Row(
            "token-data/speed",
            what,
            reference,
            statistics.median(made.num_tokens / made.elapsed_s for made in theirs) / MB,
            statistics.median(made.num_tokens / made.elapsed_s for made in ours) / MB,
            "M tokens/s",
            50.0,
            more_is_better=True,
            note=note,
        ),
        Row(
            "token-data/memory",
            f"{what}, peak memory",
            reference,
            statistics.median(made.peak_bytes for made in theirs) / MB,
            statistics.median(made.peak_bytes for made in ours) / MB,
            "MB",
            0.1,
            note=note,
        ),
    ]


def _extrapolated(little: Making, part: Making, size: int) -> Making:
    """What a making of `size` bytes would take, if each byte costs the same."""
    share = (size - little.size_bytes) / (part.size_bytes - little.size_bytes)

    def at_size(start: float, end: float) -> float:
        return start + (end - start) * share

    return Making(
        size,
        at_size(little.elapsed_s, part.elapsed_s),
        round(at_size(little.num_tokens, part.num_tokens)),
        round(at_size(little.peak_bytes, part.peak_bytes)),
    )


def _write_texts(work_dir: Path, size: int) -> Path:
    folder = work_dir / f"texts-{size}"
    write_text(folder / "train" / "a.txt", size - VALIDATION_BYTES)
    write_text(folder / "validation" / "b.txt", VALIDATION_BYTES, seed=1)
    return folder


def _make(which: str, size: int, texts: Path, tokenizer: Path, out: Path) -> Making:
    module = [sys.executable, "-m", "tests.benchmarks.token_data"]
    done = measure([*module, which, texts, tokenizer, out])
    made = json.loads(done.stdout.strip().splitlines()[-1])
    return Making(size, made["elapsed_s"], made["num_tokens"], done.peak_bytes)
