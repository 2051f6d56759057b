"""The repository that every diff is taken in."""

from pathlib import Path

import pytest

from tests.commands import Cli
from tests.diff.repository import LOCK, SPEC, Repository


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Committed once; the working directory is inside it."""
    made = Repository(tmp_path / "repository", Cli())
    (made.folder / "data").mkdir(parents=True)
    made.spec.write_text(SPEC)
    (made.folder / "data" / "a.txt").write_text("All happy families are alike. " * 40)
    (made.folder / "continuum.lock").write_text(LOCK)
    made.git("init", "-q", "-b", "main")
    made.git("config", "user.email", "a@example.org")
    made.git("config", "user.name", "A")
    made.commit()
    monkeypatch.chdir(made.path)
    return made
