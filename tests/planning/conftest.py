"""Experiments of texts and tokenizers alone: real stages that take milliseconds."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.data_stages.conftest import hub, tokenizer_dir  # noqa: F401  # fixtures
from tests.planning.carrying_out import CrashError, Events, Interruption, run
from tests.planning.worlds import World, text_of
from tests.servers.texts import serve_texts

SMALL: dict[str, Any] = {
    "book": {"kind": "fetch", "sources": [{"path": "book.txt"}]},
    "notes": {"kind": "fetch", "sources": [{"path": "notes.txt"}]},
    "tokenizer": {"kind": "train_tokenizer", "corpus": "book", "vocab_size": 270},
}
"""Two corpora, and a tokenizer of one of them."""
Write = Callable[..., Path]


@pytest.fixture
def small(tmp_path: Path) -> Write:
    """Write an experiment with its two texts; its folder. Stages given are added or replaced."""

    def write(folder: str = "small", /, **stages: Any) -> Path:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        for name in ("book", "notes"):
            if not (path / f"{name}.txt").exists():
                (path / f"{name}.txt").write_bytes(text_of(name, 0))
        write_spec(path, {k: v for k, v in {**SMALL, **stages}.items() if v is not None})
        return path

    return write


@pytest.fixture(scope="session")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining of 8 steps that died after step 5, with checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("crashed")
    with serve_texts() as texts:
        world = World(folder, random.Random(0), texts)
        world.begin(trains=True)
        with pytest.raises(CrashError):
            run(folder, events=Events(Interruption("crash", "pretrain", 9)))
    return folder


def write_spec(folder: Path, stages: dict[str, Any], **head: Any) -> None:
    """Write experiment.yaml."""
    document = {"continuum": 1, "name": "small", "seed": 1, **head, "stages": stages}
    text = yaml.safe_dump(document, sort_keys=False)
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
