"""Names of files and folders whose bytes are not UTF-8, through every command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Cli

NAMES = {
    b"caf\xe9.txt": r"caf\xe9.txt",
    b"two\nlines\t.txt": r"two\nlines\t.txt",
    "x\u202egpj.txt".encode(): r"x\u202egpj.txt",
    rb"caf\xe9.txt": r"caf\\xe9.txt",
    'grün "it\'s".txt'.encode(): 'grün "it\'s".txt',
    b"[red] :heart: [bold].txt": "[red] :heart: [bold].txt",
}
BOOKS = r"""
continuum: 1
name: toy
stages:
  books: {kind: import, as: corpus, path: data}
"""
SPEC = rf"""{BOOKS}
  more: {{kind: fetch, sources: [{{path: data/*.txt}}, {{path: 'data/caf\xe9.txt'}}]}}
  tok: {{kind: train_tokenizer, corpus: books, vocab_size: 262}}
  tokens:
    kind: tokenize
    corpus: more
    tokenizer: tok
    validation: {{files: ['caf\xe9.txt']}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment in a folder of such a name, with such files."""
    found = tmp_path / os.fsdecode(b"exp\xe9riment\n2")
    (found / "data").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        path = found / "data" / os.fsdecode(name)
        path.write_text(f"text {number} of a name\n" * 20, encoding="utf-8")
    (found / "experiment.yaml").write_text(SPEC, encoding="utf-8")
    return found


def sources(folder: Path, stage: str) -> list[str]:
    (path,) = folder.glob(f"runs/{stage}-*/artifact.json")
    return [item["source"] for item in json.loads(path.read_bytes())["artifact"]["items"]]


@pytest.mark.slow
def test_every_command_reads_records_and_shows_them(folder: Path, cli: Cli) -> None:
    listed = json.loads(cli("plan", folder, "--json", "--out", folder / "plan.json").stdout)
    assert listed == json.loads((folder / "plan.json").read_bytes())
    assert listed["stages"][0]["files"] == {"taken": {".txt": 6}, "left": {}}
    cli("run", folder, "--plan", folder / "plan.json", "--plain")
    assert sources(folder, "books") == sorted(NAMES.values())
    assert sources(folder, "more") == [*sorted(NAMES.values()), r"caf\xe9.txt"]
    (stage,) = folder.glob("runs/books-*/stage.json")
    assert sorted(json.loads(stage.read_bytes())["identity"]["files"]) == sorted(NAMES.values())
    shown = cli("lineage", folder).stdout
    assert all(name in shown for name in NAMES.values())
    assert "6 files" in cli("status", folder).stdout
    assert json.loads(cli("verify", folder, "--json").stdout)["schema"]
    cli("lock", folder)
    cli("run", folder, "--locked", "--plain")
    assert "no differences" in cli("diff", folder, folder).stdout
    for command in ("doctor", "render"):
        assert json.loads(cli(command, folder, "--json").stdout)
    cli("logs", folder, "books")


def test_a_change_is_called_by_its_name(folder: Path, cli: Cli) -> None:
    (folder / "experiment.yaml").write_text(BOOKS, encoding="utf-8")
    cli("run", folder, "--plain")
    shown = cli("lineage", folder).stdout
    assert all(name in shown for name in NAMES.values()), shown
    (folder / "data" / os.fsdecode(b"caf\xe9.txt")).write_text("other\n" * 50, encoding="utf-8")
    assert r"caf\xe9.txt" in cli("plan", folder).stdout


def test_what_is_missing_is_called_by_its_name(folder: Path, cli: Cli) -> None:
    (folder / "data" / os.fsdecode(b"gone\xff.txt")).symlink_to(os.fsdecode(b"nowhere\xfe"))
    said = cli("plan", folder, expect=4).stderr
    assert r"gone\xff.txt: broken link to nowhere\xfe" in said
    assert "\n2/" not in said


def test_a_spec_of_such_a_name_is_read(folder: Path, cli: Cli) -> None:
    spec = folder / os.fsdecode(b"sp\xe9c.yaml")
    spec.write_text(BOOKS.replace("kind: import", "kind: importt"), encoding="utf-8")
    assert r"sp\xe9c.yaml" in cli("validate", spec, expect=3).stderr
    told = json.loads(cli("validate", spec, "--format", "json", expect=3).stdout)
    assert told["diagnostics"][0]["file"].endswith(r"sp\xe9c.yaml")
    base = folder / os.fsdecode(b"b\xe8se.yaml")
    base.write_text(BOOKS, encoding="utf-8")
    spec.write_text("extends: 'b\\xe8se.yaml'\n", encoding="utf-8")
    assert "toy: valid" in cli("validate", spec).stdout


LOCALES = (
    {"PYTHONIOENCODING": "ascii:strict"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


def test_the_locale_changes_nothing_that_is_made(folder: Path) -> None:
    (folder / "experiment.yaml").write_text(BOOKS, encoding="utf-8")

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "continuum", "plan", *arguments]
        own = {**os.environ, **more}
        return subprocess.run(command, cwd=folder, env=own, capture_output=True, check=False)

    here = json.loads(run("experiment.yaml", "--json").stdout)
    for locale in LOCALES:
        assert json.loads(run("experiment.yaml", "--json", **locale).stdout) == here, locale
        told = run(os.fsdecode(b"none\xe9.yaml"), **locale)
        assert b"none\\xe9.yaml" in told.stderr
        assert b"has a bug" not in told.stderr
        assert b"Traceback" not in told.stderr
