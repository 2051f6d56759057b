"""One making of token data, ours or LitGPT's, in a process of its own.

    python -m tests.benchmarks.token_data {ours,litgpt} TEXTS TOKENIZER OUT

TEXTS holds `train/*.txt` and `validation/*.txt`. The last line on stdout is a JSON object: the
seconds (imports and the tokenizer's own loading are not counted), and the number of tokens.
"""

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from continuum.runs.artifacts import Artifact, Corpus, CorpusItem, TokenizedDataset
from tests.support import make_stage, run_stage


@dataclass(frozen=True)
class Made:
    """What one making took, and how many tokens it made."""

    elapsed_s: float
    num_tokens: int


def make_with_continuum(texts: Path, tokenizer: Path, out: Path) -> Made:
    """The tokenize stage, published: hashed and flushed to the disk."""
    import continuum.text.dataset  # noqa: F401 - the run's worker has torch and litdata at birth
    from continuum.stages.tokenize import Tokenize
    from continuum.text.inspection import inspect_tokenizer

    inputs: dict[str, Artifact] = {
        "train": _corpus(texts / "train"),
        "validation": _corpus(texts / "validation"),
        "tokenizer": inspect_tokenizer(tokenizer),
    }
    fields = {"corpus": "train", "tokenizer": "tokenizer", "validation": {"corpus": "validation"}}
    stage = make_stage(Tokenize, out, **fields)
    start = time.perf_counter()
    made = run_stage(stage, out, inputs=inputs)
    elapsed_s = time.perf_counter() - start
    assert isinstance(made, TokenizedDataset)
    assert made.validation is not None
    shutil.rmtree(out)
    return Made(elapsed_s, made.train.num_tokens + made.validation.num_tokens)


def make_with_litgpt(texts: Path, tokenizer: Path, out: Path) -> Made:
    """LitGPT's data module, which makes its tokens beside the texts; `out` is not used."""
    from litgpt.data import TextFiles
    from litgpt.tokenizer import Tokenizer

    data = TextFiles(texts / "train", texts / "validation")
    data.connect(tokenizer=Tokenizer(tokenizer), batch_size=4, max_seq_length=256)
    start = time.perf_counter()
    data.prepare_data()
    elapsed_s = time.perf_counter() - start
    made = Made(elapsed_s, sum(map(_num_tokens, (data.out_path_train, data.out_path_val))))
    for folder in (data.out_path_train, data.out_path_val):
        shutil.rmtree(folder)  # The next one would take them for its own.
    return made


def _corpus(folder: Path) -> Corpus:
    items = tuple(
        CorpusItem(
            file=path.name,
            source=path.name,
            size_bytes=path.stat().st_size,
            sha256="0" * 64,  # a fetch has made it; nothing here reads it
            format="txt",
        )
        for path in sorted(folder.glob("*.txt"))
    )
    return Corpus(path=folder, items=items)


def _num_tokens(folder: Path) -> int:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return sum(chunk["dim"] for chunk in index["chunks"])


if __name__ == "__main__":
    make = {"ours": make_with_continuum, "litgpt": make_with_litgpt}[sys.argv[1]]
    made = make(*map(Path, sys.argv[2:5]))
    print(json.dumps({"elapsed_s": made.elapsed_s, "num_tokens": made.num_tokens}))
