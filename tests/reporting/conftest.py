"""Experiments to report on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Cli
from tests.experiments import small_flow


@pytest.fixture(scope="session")
def finished(run_once: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small flow after a run, with its report; tests read it or copy it."""
    folder = shutil.copytree(run_once(small_flow()), tmp_path_factory.mktemp("report") / "toy")
    Cli()("report", folder)
    return folder


@pytest.fixture(scope="session")
def page(finished: Path) -> str:
    """The text of the report."""
    return (finished / "results" / "report.html").read_text(encoding="utf-8")
