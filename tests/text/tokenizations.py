"""Tokenize stages on small corpora, and what the plan says of them."""

from pathlib import Path
from typing import Any

from litdata.streaming import StreamingDataset, TokensLoader
from tokenizers import Tokenizer

from continuum.experiment.forecast import Forecast
from continuum.experiment.stage import PlanInput
from continuum.runs.artifacts import Artifact, Corpus, TokenizedDataset
from continuum.stages.tokenize import Tokenize
from continuum.text.inspection import inspect_tokenizer
from tests.support import make_stage, run_stage


def make(folder: Path, **fields: Any) -> Tokenize:
    fields = {"corpus": "books", "tokenizer": "tokenizer", "validation": "none"} | fields
    stage = make_stage(Tokenize, folder, **fields)
    assert isinstance(stage, Tokenize)
    return stage


def tokenize(
    folder: Path, tokenizer: Path, corpora: dict[str, Corpus], *, split: int = 0, **fields: Any
) -> TokenizedDataset:
    inputs: dict[str, Artifact] = {**corpora, "tokenizer": inspect_tokenizer(tokenizer)}
    made = run_stage(make(folder, **fields), folder, inputs=inputs, seeds={"split": split})
    assert isinstance(made, TokenizedDataset)
    return made


def read_back(dataset: TokenizedDataset, split: str = "train") -> list[int]:
    blocks = StreamingDataset(
        str(dataset.path / split), item_loader=TokensLoader(block_size=1), shuffle=False
    )
    return [blocks[index].item() for index in range(len(blocks))]


def encode_whole(folder: Path, text: str) -> list[int]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def forecast_of(stage: Tokenize, **artifacts: Artifact | int | None) -> Forecast:
    inputs = {
        name: PlanInput(
            stage,
            Forecast(max_text_bytes=known if isinstance(known, int) else None),
            known if isinstance(known, Artifact) else None,
        )
        for name, known in ({"tokenizer": None} | artifacts).items()
    }
    return stage.forecast(inputs, Path())
