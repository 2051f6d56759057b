"""The workflow that comments pull requests: its own steps, in a real repository, over real HTTP."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands import Cli
from tests.diff.repository import SPEC, Repository

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "experiment-diff.yml"
FIRST, SECOND, NESTED = (f"{name}/experiment.yaml" for name in ("studies/a", "b", "studies/x/c"))
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="the workflow's shell")


def step(name: str) -> dict[str, Any]:
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    (found,) = [item for item in jobs["diff"]["steps"] if item.get("name") == name]
    return dict(found)


@dataclass(frozen=True)
class Compared:
    """What the comparison printed and wrote."""

    printed: str
    comment: str
    outputs: str


def compare(repository: Repository, tmp_path: Path) -> Compared:
    """Run the comparison of the last commit with the one before, as the workflow's shell does."""
    command = tmp_path / "bin" / "continuum"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m continuum "$@"\n')
    command.chmod(0o755)
    base, head = repository.git("rev-parse", "HEAD~1", "HEAD").split()
    summary, outputs = tmp_path / "summary.md", tmp_path / "outputs"
    for path in (summary, outputs):
        path.unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step(COMPARE)["run"]],
        cwd=repository.path,
        env={
            **os.environ,
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "BASE": base,
            "HEAD": head,
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_OUTPUT": str(outputs),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    comment = (repository.path / "comment.md").read_text(encoding="utf-8")
    assert summary.read_text(encoding="utf-8") == comment
    return Compared(done.stdout, comment, outputs.read_text(encoding="utf-8"))


COMPARE = "Compare every experiment with the base"


def write(repository: Repository, spec: str, text: str) -> None:
    path = repository.path / spec
    (path.parent / "data").mkdir(parents=True, exist_ok=True)
    (path.parent / "data" / "a.txt").write_text("All happy families are alike. " * 40)
    path.write_text(text, encoding="utf-8")


@needs_bash
def test_the_comment_names_what_is_changed_new_nested_and_removed(
    repository: Repository, tmp_path: Path
) -> None:
    for spec in (FIRST, SECOND):
        write(repository, spec, SPEC)
    repository.commit()
    write(repository, FIRST, SPEC.replace("max_steps: 20", "max_steps: 25"))
    shutil.rmtree((repository.path / SECOND).parent)
    write(repository, NESTED, SPEC)
    repository.commit()
    found = compare(repository, tmp_path)
    assert "max_steps" in found.comment
    assert f"### new experiment `{NESTED}`" in found.comment
    assert "training tokens" in found.comment.partition(NESTED)[2], "its plan"
    assert found.comment.rstrip().endswith(f"### removed experiment `{SECOND}`")
    assert found.outputs == "invalid=0\n"


@needs_bash
def test_an_invalid_spec_is_annotated_and_in_the_comment(
    repository: Repository, tmp_path: Path
) -> None:
    write(repository, FIRST, SPEC)
    repository.commit()
    write(repository, FIRST, f"# A comment.\n{SPEC}")
    repository.commit()
    assert compare(repository, tmp_path).comment == ""
    write(repository, FIRST, SPEC.replace("kind: pretrain", "kind: pretrian"))
    repository.commit()
    found = compare(repository, tmp_path)
    assert f"::error file={FIRST},line=" in found.printed
    assert f"### `{FIRST}` is not valid" in found.comment
    assert "pretrian" in found.comment
    assert found.outputs == "invalid=1\n"
    write(repository, FIRST, SPEC)
    repository.commit()
    found = compare(repository, tmp_path)
    assert "cannot be compared with the base" in found.comment
    assert found.outputs == "invalid=0\n"


@dataclass
class Comments:
    """A pull request's comments, as GitHub's API keeps them."""

    found: dict[int, str] = field(default_factory=dict)
    refused: int = 0
    """The status of every request that writes, if not 0."""
    url: str = ""
    methods: list[str] = field(default_factory=list)


@contextmanager
def serve(comments: Comments) -> Iterator[None]:
    """Speak the part of https://docs.github.com/rest/issues/comments that the workflow asks."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            comments.methods.append(self.command)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            assert self.headers["Authorization"] == "Bearer secret"
            path, _, query = self.path.partition("?")
            if self.command == "GET":
                assert path == "/repos/o/r/issues/7/comments"
                page = int(query.partition("page=")[2].partition("&page=")[2] or 1)
                listed = [{"id": key, "body": text} for key, text in comments.found.items()]
                self._send(200, listed[(page - 1) * 100 : page * 100])
            elif comments.refused:
                self._send(comments.refused, {"message": "Resource not accessible"})
            elif self.command == "POST":
                comments.found[max(comments.found, default=0) + 1] = json.loads(body)["body"]
                self._send(201, {})
            elif self.command == "PATCH":
                comments.found[int(path.rpartition("/")[2])] = json.loads(body)["body"]
                self._send(200, {})
            else:
                del comments.found[int(path.rpartition("/")[2])]
                self._send(204, None)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - http.server's names

        def _send(self, status: int, document: Any) -> None:
            body = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        comments.url = f"http://127.0.0.1:{server.server_port}"
        yield
        server.shutdown()


def post(comments: Comments, folder: Path, text: str) -> str:
    """Run the step that posts `comment.md`; what it prints."""
    (folder / "comment.md").write_text(text, encoding="utf-8")
    with serve(comments):
        done = subprocess.run(
            [sys.executable, "-c", step("Post it")["run"]],
            cwd=folder,
            env={
                **os.environ,
                "GH_TOKEN": "secret",
                "NUMBER": "7",
                "GITHUB_API_URL": comments.url,
                "GITHUB_REPOSITORY": "o/r",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_comment_is_posted_updated_and_removed(tmp_path: Path) -> None:
    comments = Comments({number: "a reviewer's words" for number in range(1, 151)})
    others = dict(comments.found)
    post(comments, tmp_path, "first\n")
    assert comments.found == {**others, 151: "<!-- continuum diff -->\nfirst"}
    post(comments, tmp_path, "second\n")
    assert comments.found == {**others, 151: "<!-- continuum diff -->\nsecond"}
    post(comments, tmp_path, "x" * 80_000)
    assert len(comments.found[151]) < 65_536
    post(comments, tmp_path, "")
    assert comments.found == others
    comments.methods.clear()
    post(comments, tmp_path, "")
    assert set(comments.methods) == {"GET"}


def test_a_token_that_only_reads_leaves_the_job_green(tmp_path: Path) -> None:
    comments = Comments(refused=403)
    assert "::notice::" in post(comments, tmp_path, "first")
    assert comments.found == {}


def test_the_hooks_validate_and_check_the_lock(
    repository: Repository, tmp_path: Path, cli: Cli
) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    entries = {hook["id"]: hook["entry"] for hook in hooks}
    command = tmp_path / "bin" / "continuum"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m continuum "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    texts = {key: value for key, value in yaml.safe_load(SPEC)["stages"].items() if key == "books"}
    spec = yaml.safe_dump({"continuum": 1, "name": "small", "seed": 1, "stages": texts})
    write(repository, FIRST, spec)

    def hook(name: str) -> int:
        return subprocess.run(
            ["bash", "-c", f'{entries[name]} "$@"', "hook", FIRST],
            cwd=repository.path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            check=False,
        ).returncode

    assert hook("continuum-validate") == hook("continuum-lock") == 0  # there is no lock yet
    cli("run", repository.path / FIRST)
    assert hook("continuum-lock") == 0
    (repository.path / FIRST).parent.joinpath("data", "a.txt").write_text("other")
    assert hook("continuum-lock") == 1
    told = cli("lock", "--check", repository.path / FIRST, expect=6)
    assert "books: the spec or a local file has changed" in told.stdout
    write(repository, FIRST, spec.replace("kind: fetch", "kind: fetsch"))
    assert hook("continuum-validate") == 1
