"""Planted secrets are neither printed by any command nor recorded below the folder."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import Cli
from tests.servers.hub import HubServer, serve_hub
from tests.servers.texts import TextServer, serve_texts

CANARY = "CANARY"
"""A part of every secret."""
BOOK = b"Call me Ishmael.\n" * 40
ENVIRONMENT = {
    "BOOKS": f"{CANARY}-books",
    "READER": f"{CANARY}-reader",
    "HF_TOKEN": f"{CANARY}-hub",
    "MIRROR_PASSWORD": f"{CANARY}-mirror",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}
SPEC = """\
continuum: 1
name: toy
vars: {{books_token: {canary}-variable}}
stages:
  written: {{kind: fetch, sources: [{{url: "{url}/a.txt?token={canary}-written"}}]}}
  filled: {{kind: fetch, sources: [{{url: "{url}/a.txt?auth=${{books_token}}"}}]}}
  named: {{kind: fetch, sources: [{{url: "{url}/a.txt?token=${{env.BOOKS}}&a=1"}}]}}
  signed: {{kind: fetch, sources: [{{url: "{url}/signed.txt"}}]}}
  user: {{kind: fetch, sources: [{{url: "{as_user}/user.txt"}}]}}
  lost: {{kind: fetch, sources: [{{url: "{url}/lost.txt?token=${{env.BOOKS}}"}}]}}
  away: {{kind: fetch, sources: [{{url: "{url}/away.txt?token=${{env.BOOKS}}"}}]}}
  hub: {{kind: download, repo: toys/tiny, files: tokenizer}}
"""
GOOD = ("written", "filled", "named", "signed")


@pytest.fixture
def texts() -> Iterator[TextServer]:
    """Files that only the right secrets reach, and redirects that hold others."""
    with serve_texts() as server:
        paths = ("token=CANARY-written", "auth=CANARY-variable", "token=CANARY-books&a=1")
        server.files = {f"/a.txt?{query}": BOOK for query in paths}
        server.files["/final.txt?X-Amz-Signature=CANARY-signature"] = BOOK
        server.redirects["/signed.txt"] = "/final.txt?X-Amz-Signature=CANARY-signature"
        server.redirects["/lost.txt?token=CANARY-books"] = "file:///x?token=CANARY-books&sig=CANARY"
        elsewhere = server.url.replace("127.0.0.1", "localhost")
        server.redirects["/away.txt?token=CANARY-books"] = f"{elsewhere}/none?sig=CANARY-away"
        yield server


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """A Hub that repeats the token it got."""
    with serve_hub(tmp_path / "hub") as server:
        server.explanation = f"no access for {ENVIRONMENT['HF_TOKEN']}, {CANARY}-body"
        yield server


@pytest.fixture
def spec(texts: TextServer, tmp_path: Path) -> Path:
    """In a Git repository, whose uncommitted changes are recorded."""
    folder = tmp_path / "toy"
    folder.mkdir()
    path = folder / "experiment.yaml"
    path.write_text("continuum: 1\n", encoding="utf-8")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "start")):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    as_user = texts.url.replace("http://", "http://me:${env.READER}@")
    written = SPEC.format(canary=CANARY, url=texts.url, as_user=as_user)
    path.write_text(written, encoding="utf-8")
    return path


def recorded(folder: Path) -> dict[str, bytes]:
    """All files of the experiment but the spec and Git's own."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path): path.read_bytes() for path in files if path.name != "experiment.yaml"}


FEW = (("status", "--json"), ("validate", "--format", "github"), ("report",))
ALL = (
    *(("validate", "--format", form) for form in ("human", "json", "github")),
    ("validate", "--set", f"stages.named.sources.0.format=https://me:{CANARY}@h"),
    ("run", "--json", "--set", f"stages.named.sources.0.url=http://127.0.0.1:9/?sig={CANARY}"),
    ("plan", "--json", "--set", f"stages.named.sources.0.url=http://127.0.0.1:9/?sig={CANARY}"),
    ("plan", "--out", "plan.json", "--set", f"vars.books_token={CANARY}"),
    ("plan", "--out", "plan.json"),
    ("plan", "--why", "lost"),
    ("status", "--json"),
    ("lineage", "--json"),
    ("runs", "--json"),
    ("render", "--origins"),
    ("render", "--json"),
    ("diff", "experiment.yaml", "--md"),
    ("logs", "hub"),
    ("peek", "written"),
    ("report",),
    *(("report", "--format", form) for form in ("md", "latex")),
    ("lock", "--upgrade"),
    ("verify",),
)


@pytest.mark.parametrize("commands", [FEW, pytest.param(ALL, marks=pytest.mark.slow)])
def test_no_secret_is_printed_or_recorded(
    commands: tuple[tuple[str, ...], ...],
    spec: Path,
    texts: TextServer,
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cli = Cli({**ENVIRONMENT, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")})
    monkeypatch.chdir(spec.parent)
    done = cli("run", spec, expect=5)
    printed = [done.stdout + done.stderr]
    for text in (
        "lost.txt?token=${env.BOOKS}: redirected to file:///x?token=${env.BOOKS}&sig=<redacted>, ",
        "away.txt?token=${env.BOOKS}: HTTP status 404 from http://localhost",
        "toys/tiny at revision main",
        *(f"{name}: done" for name in GOOD),
    ):
        assert text in done.stderr
    received = [request.headers.get("Authorization", "") for request in texts.requests]
    assert any(it.startswith("Basic ") for it in received)
    assert hub.requests[0].headers["authorization"] == f"Bearer {ENVIRONMENT['HF_TOKEN']}"

    for command, *options in commands:
        done = cli(command, spec, *options, expect=None)
        printed.append(done.stdout + done.stderr)
    traced = subprocess.run(
        [sys.executable, "-m", "continuum", "-v", "run", str(spec), "--locked"],
        capture_output=True,
        text=True,
        env=cli._environment(),
        check=False,
    )
    assert "Traceback" in traced.stderr

    files = recorded(spec.parent)
    names = {Path(name).name for name in files}
    assert {"continuum.lock", "lineage.json", "stage.json", "artifact.json", "log.txt"} <= names
    assert any(name.endswith(".patch") for name in names)
    assert [text for text in (*printed, traced.stdout, traced.stderr) if CANARY in text] == []
    assert [name for name, content in files.items() if CANARY.encode() in content] == []
