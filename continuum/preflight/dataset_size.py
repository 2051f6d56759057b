"""Whether the disk holds a tokenized dataset, estimated from its corpora before it is made."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from continuum.experiment.stage import DiskNeed, PlanInput
from continuum.formatting import format_bytes
from continuum.preflight.disk import free_bytes
from continuum.problems import Problem
from continuum.runs.artifacts import Corpus, TokenizerFiles

MAX_BYTES_PER_TOKEN, USUAL_BYTES_PER_TOKEN = 8, 3
"""Of text: no tokenizer in use reaches the first on prose; large ones are about 4 on English."""
MAX_UINT16_IDS = 1 << 16
"""Vocabularies up to this are stored in two bytes a token, larger ones in four."""


def dataset_need(inputs: Iterable[PlanInput]) -> DiskNeed | None:
    """What the token chunks take at the least; None while the corpora do not exist."""
    inputs = tuple(inputs)
    least = sum(map(_plain_text_bytes, inputs)) // MAX_BYTES_PER_TOKEN * _bytes_per_id(inputs)
    return DiskNeed(least) if least else None


def dataset_warnings(inputs: Iterable[PlanInput], experiment_folder: Path) -> Iterator[Problem]:
    """A doubt when the chunks of so much text usually take more of the disk than is free."""
    inputs = tuple(inputs)
    usual = sum(map(_text_bytes, inputs)) // USUAL_BYTES_PER_TOKEN * _bytes_per_id(inputs)
    free = free_bytes(experiment_folder)
    if usual > free:
        yield Problem(
            ("corpus",),
            f"the tokens of this corpus may take {format_bytes(usual)}, and {format_bytes(free)} "
            "are free on the experiment's disk",
            severity="warning",
            needs="machine",
        )


def _bytes_per_id(inputs: Iterable[PlanInput]) -> int:
    views = (item.artifact.view(TokenizerFiles) for item in inputs if item.artifact is not None)
    sizes = [view.num_ids for view in views if isinstance(view, TokenizerFiles)]
    return 4 if any(size > MAX_UINT16_IDS for size in sizes) else 2


def _text_bytes(item: PlanInput) -> int:
    """No more than these in a corpus, or those of its files; zero while nothing is known."""
    if isinstance(item.artifact, Corpus):
        return item.artifact.size_bytes
    return item.forecast.max_text_bytes or 0


def _plain_text_bytes(item: PlanInput) -> int:
    """What is surely text, a byte a letter or more: of JSON lines only a part is."""
    items = item.artifact.items if isinstance(item.artifact, Corpus) else ()
    return sum(
        file.size_bytes
        for file in items
        if file.format != "jsonl"
        and file.compression == "none"
        and file.encoding.lower().replace("_", "-") in ("utf-8", "ascii")
    )
