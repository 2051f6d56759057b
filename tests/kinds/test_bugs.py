"""A bug is told as one: shortly, with what to send, and never as if the user had erred."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import continuum
from tests.kinds.offering import offer
from tests.spec.documents import HEAD, write

KIND = Path(__file__).with_name("broken_kind.py")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment of a kind that a package in `site` offers."""
    root = tmp_path_factory.mktemp("broken")
    offer(root / "site", KIND, broken="Broken")
    write(root / "toy" / "experiment.yaml", HEAD + "stages:\n  a: {kind: broken}\n")
    return root


def plan(
    root: Path, *options: str, first: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "continuum", *first, "plan", "toy", *options],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "site"), "TMPDIR": str(root), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_bug_is_short_and_its_traceback_is_in_a_file(broken: Path) -> None:
    done = plan(broken)
    assert done.returncode == 1
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first == "continuum has a bug: ZeroDivisionError: integer division or modulo by zero"
    named = re.search(r"please report it, with the command and (\S+)", second)
    assert named
    kept = Path(named[1]).read_text(encoding="utf-8")
    assert kept.startswith(f"continuum {continuum.__version__}, Python ")
    assert "plan toy" in kept
    assert "site/broken_kind.py" in kept
    assert "ZeroDivisionError" in kept


def test_verbose_shows_the_traceback_itself(broken: Path) -> None:
    done = plan(broken, first=("-v",))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "site/broken_kind.py" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("with the command and the traceback above")


def test_where_no_file_can_be_written_the_traceback_is_shown(broken: Path) -> None:
    # Python looks through the usual folders when TMPDIR is of no use, so all of them must fail.
    code = (
        "import sys, tempfile; tempfile.tempdir = '/nonexistent'; sys.argv = ['continuum', 'plan', "
        "'toy']; from continuum.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=broken,
        env={**os.environ, "PYTHONPATH": str(broken / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "the traceback above" in done.stderr


def test_the_same_kind_without_its_bug_is_planned(broken: Path) -> None:
    assert plan(broken, "--set", "stages.a.divisor=1").returncode == 0
