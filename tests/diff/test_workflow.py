"""The example of a workflow that comments pull requests: its own script, in a real repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.diff.repository import SPEC, Repository

WORKFLOW = Path(__file__).parents[2] / ".github" / "workflows" / "experiment-diff.yml"
FIRST, SECOND, THIRD = (f"experiments/{name}/experiment.yaml" for name in ("a", "b", "c"))


def script_of(step: str) -> str:
    """What a step of the workflow runs."""
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    (found,) = [item["run"] for item in jobs["diff"]["steps"] if item.get("name") == step]
    return str(found)


def compare(repository: Repository, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run the comparison of the last commit with the one before, as the workflow's shell does."""
    command = tmp_path / "bin" / "continuum"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m continuum "$@"\n')
    command.chmod(0o755)
    base, head = repository.git("rev-parse", "HEAD~1", "HEAD").split()
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", script_of("Compare every experiment with the base")],
        cwd=repository.path,
        env={**os.environ, "PATH": path, "BASE": base, "HEAD": head},
        capture_output=True,
        text=True,
        check=False,
    )


def write(repository: Repository, spec: str, text: str) -> None:
    path = repository.path / spec
    (path.parent / "data").mkdir(parents=True, exist_ok=True)
    (path.parent / "data" / "a.txt").write_text("All happy families are alike. " * 40)
    path.write_text(text, encoding="utf-8")


@pytest.mark.skipif(shutil.which("bash") is None, reason="the workflow's shell")
def test_the_comment_tells_what_is_changed_new_and_removed(
    repository: Repository, tmp_path: Path
) -> None:
    for spec in (FIRST, SECOND):
        write(repository, spec, SPEC)
    repository.commit()
    write(repository, FIRST, SPEC.replace("max_steps: 20", "max_steps: 25"))
    shutil.rmtree((repository.path / SECOND).parent)
    write(repository, THIRD, SPEC)
    repository.commit()
    done = compare(repository, tmp_path)
    assert done.returncode == 0, done.stderr
    comment = (repository.path / "comment.md").read_text(encoding="utf-8")
    assert "max_steps" in comment
    assert f"### new experiment `{THIRD}`" in comment
    assert "training tokens" in comment.partition(THIRD)[2], "its plan"
    assert comment.rstrip().endswith(f"### removed experiment `{SECOND}`")


@pytest.mark.skipif(shutil.which("bash") is None, reason="the workflow's shell")
def test_nothing_is_said_of_what_is_the_same_and_a_wrong_spec_fails(
    repository: Repository, tmp_path: Path
) -> None:
    write(repository, FIRST, SPEC)
    repository.commit()
    write(repository, FIRST, f"# A comment.\n{SPEC}")
    repository.commit()
    done = compare(repository, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (repository.path / "comment.md").read_text(encoding="utf-8") == ""
    write(repository, FIRST, SPEC.replace("kind: pretrain", "kind: pretrian"))
    repository.commit()
    done = compare(repository, tmp_path)
    assert done.returncode == 3
    assert "pretrian" in done.stderr + done.stdout
