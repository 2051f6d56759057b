"""What is recorded of Git, on real repositories in every state."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from continuum.runs.folder import ExperimentFolder
from continuum.runs.provenance import MAX_PATCH_BYTES, capture_provenance, describe_git
from tests.commands import Cli

BASE = "seed: 3\n"
SPEC = """\
extends: ../base.yaml
continuum: 1
name: recorded
stages:
  books: {kind: fetch, sources: [{python: this.py}]}
"""


class Checkout:
    """A repository with an experiment in a folder of it, all committed."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "one"
        self.spec, self.base = self.folder / "experiment.yaml", root / "base.yaml"
        self.folder.mkdir(parents=True)
        self.spec.write_text(SPEC)
        self.base.write_text(BASE)
        self.git("init", "-q")
        self.git("config", "user.email", "someone@example.org")
        self.git("config", "user.name", "Someone")
        self.commit()

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "a change")

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    def described(self) -> dict[str, Any]:
        found = describe_git(self.folder, (self.spec, self.base))
        assert found is not None
        return found


CLEAN = {"tracked": True, "clean": True}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "repository")


def test_a_committed_spec_and_its_base_are_clean(checkout: Checkout) -> None:
    assert checkout.described() == {
        "commit": checkout.head,
        "is_dirty": False,
        "files": {"experiment.yaml": CLEAN, "../base.yaml": CLEAN},
    }


def test_an_untracked_spec_is_reported_though_the_checkout_is_clean(checkout: Checkout) -> None:
    checkout.git("rm", "-q", "--cached", "one/experiment.yaml")
    checkout.git("commit", "-q", "-m", "forgotten")
    found = checkout.described()
    assert not found["is_dirty"]
    assert found["files"]["experiment.yaml"] == {"tracked": False, "clean": False}
    assert found["files"]["../base.yaml"] == CLEAN


def test_a_changed_base_that_git_is_set_to_ignore_is_found(checkout: Checkout) -> None:
    checkout.git("update-index", "--assume-unchanged", "base.yaml")
    checkout.base.write_text("seed: 4\n")
    assert checkout.described()["files"]["../base.yaml"] == {"tracked": True, "clean": False}


def test_a_spec_that_is_only_staged_is_tracked_and_not_clean(checkout: Checkout) -> None:
    checkout.spec = checkout.folder / "other.yaml"
    checkout.spec.write_text(SPEC)
    checkout.git("add", "-A")
    found = checkout.described()
    assert found["is_dirty"]
    assert found["files"]["other.yaml"] == {"tracked": True, "clean": False}


def test_a_damaged_index_leaves_unknown_what_it_knew(checkout: Checkout) -> None:
    (checkout.root / ".git" / "index").write_bytes(b"torn")
    found = checkout.described()
    assert (found["commit"], found["is_dirty"]) == (checkout.head, None)
    assert found["unknown"].startswith("git status: ")
    assert "index file" in found["unknown"]
    assert str(checkout.root) not in json.dumps(found)
    assert found["files"]["experiment.yaml"]["tracked"] is None


@pytest.mark.slow
def test_a_status_that_takes_too_long_is_unknown(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.run(["which", "git"], check=True, capture_output=True, text=True).stdout
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *" status "*) exec sleep 60;; esac\nexec {real.strip()} "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    found = describe_git(checkout.folder)
    assert found == {
        "commit": checkout.head,
        "is_dirty": None,
        "unknown": "git status: no answer within 10 s",
    }


def test_the_variables_of_a_hook_do_not_lead_to_another_repository(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Checkout(tmp_path / "other")
    other.base.write_text("seed: 5\n")
    expected = checkout.described()
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.root))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git" / "index"))
    assert checkout.described() == expected


def test_a_changed_file_whose_name_is_not_utf8_is_a_change(checkout: Checkout) -> None:
    checkout.git("config", "core.quotePath", "false")
    changed = checkout.root / os.fsdecode(b"caf\xe9.txt")
    changed.write_text("one\n")
    checkout.commit()
    changed.write_text("two\n")
    Cli()("run", checkout.spec)
    found = record_of(checkout)
    assert found["git"]["is_dirty"]
    patch = (checkout.folder / found["patch"]["file"]).read_bytes()
    assert b"b/caf\\351.txt" in patch or b"b/caf\xe9.txt" in patch


def test_dubious_ownership_is_reported(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = checkout.described()
    assert (found["commit"], found["is_dirty"]) == (None, None)
    assert "dubious ownership" in found["unknown"]
    assert str(checkout.root) not in found["unknown"]


def test_a_repository_without_a_commit_is_reported(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    found = describe_git(tmp_path)
    assert found is not None
    assert found["commit"] is None
    assert "HEAD names no commit" in found["unknown"]


def test_outside_a_repository_nothing_is_recorded(tmp_path: Path) -> None:
    assert describe_git(tmp_path) is None


def test_no_git_at_all_is_unknown_in_a_repository(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = checkout.described()
    assert found["unknown"] == "git rev-parse: git is not installed"


def test_the_index_is_not_touched(checkout: Checkout) -> None:
    index = checkout.root / ".git" / "index"
    os.utime(checkout.base, (1, 1))  # a status that may take locks writes the new time down
    before = index.read_bytes()
    assert not checkout.described()["is_dirty"]
    assert index.read_bytes() == before


def record_of(checkout: Checkout) -> dict[str, Any]:
    """The provenance in the one `stage.json`."""
    (path,) = checkout.folder.glob("runs/books-*/stage.json")
    found: dict[str, Any] = json.loads(path.read_text())["provenance"]
    return found


def test_a_run_records_all_distributions_and_the_patch_once(checkout: Checkout) -> None:
    checkout.base.write_text("seed: 4\n")
    Cli()("run", checkout.spec)
    found = record_of(checkout)
    assert found["git"]["files"]["../base.yaml"] == {"tracked": True, "clean": False}
    patch = (checkout.folder / found["patch"]["file"]).read_text()
    assert "-seed: 3\n+seed: 4\n" in patch
    versions = json.loads((checkout.folder / found["distributions"]["file"]).read_text())
    assert versions["torch"] == found["versions"]["torch"]
    assert versions["pytest"] == pytest.__version__
    assert found["continuum"]["installed"] in ("editable", "folder", "index", "no")
    (stage,) = checkout.folder.glob("runs/books-*/stage.json")
    assert stage.stat().st_size < 5_000
    assert "/" + str(checkout.root).split("/")[1] + "/" not in json.dumps(found)
    Cli()("run", checkout.spec, "--rerun", "books")
    assert len(list((checkout.folder / "runs" / ".environment").iterdir())) == 2


def test_the_patch_keeps_no_secrets(checkout: Checkout) -> None:
    token, password = "hf_" + "AbCdEfGhIj" * 4, "correct-horse"
    checkout.base.write_text(
        f"seed: 3\n# {token}\nvars:\n  db_password: {password}\n"
        f"  where: https://me:{password}@example.org/x\n"
        "key: |\n  -----BEGIN RSA PRIVATE KEY-----\n  MIIBOgIBAAJBAK\n"
    )
    found = capture_provenance(ExperimentFolder(checkout.folder))
    patch = (checkout.folder / found["patch"]["file"]).read_text()
    assert found["patch"]["num_redacted"] == 4
    assert token not in patch
    assert password not in patch
    assert "MIIB" not in patch
    assert "+  db_password: <a secret>" in patch


def test_of_a_long_patch_the_digest_alone_is_kept(checkout: Checkout) -> None:
    checkout.base.write_text("seed: 3\n" + "# more\n" * (MAX_PATCH_BYTES // 7))
    found = capture_provenance(ExperimentFolder(checkout.folder))["patch"]
    assert set(found) == {"sha256", "size_bytes"}
    assert found["size_bytes"] > MAX_PATCH_BYTES
