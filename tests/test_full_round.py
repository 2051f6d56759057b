"""`.ci/full` runs every part, whatever became of those before it, and tells which failed."""

import os
import shutil
import subprocess
from pathlib import Path

FULL = Path(__file__).parent.parent / ".ci" / "full"


def play(folder: Path, *parts: str) -> subprocess.CompletedProcess[str]:
    """Its commands are stand-ins: `ruff` fails, all the others print their arguments."""
    commands = folder / "bin"
    commands.mkdir()
    for name in ("ruff", "mypy", "lint-imports", "pytest", "python"):
        end = "exit 3" if name == "ruff" else 'echo "$0 $*"'
        (commands / name).write_text(f"#!/bin/sh\n{end}\n", encoding="utf-8")
        (commands / name).chmod(0o755)
    bash = shutil.which("bash")
    assert bash is not None
    path = f"{commands}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "FULL_LOGS": str(folder / "logs")}
    return subprocess.run(
        [bash, str(FULL), *parts], env=environment, capture_output=True, text=True, check=False
    )


def test_a_part_that_fails_does_not_keep_the_next_from_running(tmp_path: Path) -> None:
    done = play(tmp_path, "checks", "kill")
    assert done.returncode == 1
    _, checks, kill, last = done.stdout.splitlines()
    assert checks.split()[:3] == ["checks", "exit", "3"]
    assert kill.split()[:3] == ["kill", "exit", "0"]
    assert last.startswith("1 part(s) failed")
    assert "-m kill -s --kill-rounds 200" in (tmp_path / "logs" / "kill.log").read_text()


def test_parts_that_end_well_are_no_failure(tmp_path: Path) -> None:
    done = play(tmp_path, "fuzz", "mutants")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "logs" / "summary.txt").read_text().count("exit 0") == 2


def test_a_part_that_does_not_exist_is_told(tmp_path: Path) -> None:
    done = play(tmp_path, "everything")
    assert done.returncode == 2
    assert "no such part: everything" in done.stderr
