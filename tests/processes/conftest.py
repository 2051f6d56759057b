import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import only
from tests.processes.pairs import spec


@pytest.fixture(scope="session")
def alone(run_once: Callable[[str], Path]) -> Path:
    """The pretraining by one process, never interrupted."""
    return run_once(spec())


@pytest.fixture
def prepare(alone: Path, tmp_path: Path) -> Callable[..., Path]:
    """A folder with the data made and the pretraining still to do."""

    def copy(text: str, name: str = "shared") -> Path:
        folder = tmp_path / name
        shutil.copytree(alone, folder)
        shutil.rmtree(only(folder, "runs/pretrain-*"))
        (folder / "experiment.yaml").write_text(text, encoding="utf-8")
        return folder

    return copy
