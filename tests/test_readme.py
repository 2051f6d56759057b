"""Every snippet and table of the README works, and the Chinese one has the same."""

import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import pytest
import torch
import yaml

from continuum.errors import ContinuumError
from continuum.loading.diagnostics import SpecError
from continuum.training.litgpt import GPT, Config
from tests.commands import Cli
from tests.picture import WIDTHS
from tests.shipped import NAMES, ROOT
from tests.training.samples import FIELDS

REST_OF_A_RETRAIN = {
    "max_steps": 100,
    "sequence_length": 64,
    "global_batch_size": 16,
    "optimizer": {"lr": 1e-4},
}
"""What `…` stands for in the table for those who know LitGPT."""
MAX_COLUMNS = 97
"""GitHub shows no more of a block without scrolling."""
BUDGETS = {"max_steps", "max_tokens", "epochs"}


@dataclass(frozen=True)
class Page:
    """A README."""

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[tuple[str, str]]:
        """The fenced blocks: language and text."""
        return re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    def code(self, language: str) -> list[str]:
        """The fenced blocks in a language."""
        return [text for name, text in self.blocks if name == language]

    @cached_property
    def prose(self) -> str:
        """All but the fenced blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    @cached_property
    def sections(self) -> list[str]:
        """What stands below each heading, and above the first."""
        return re.split(r"^##? .*$", self.prose, flags=re.MULTILINE)

    @cached_property
    def tables(self) -> list[list[list[str]]]:
        """The cells of each table, without its heading."""
        found = re.findall(r"(?:^\|.*\|\n)+", self.prose, re.MULTILINE)
        return [[cells(line) for line in table.splitlines()[2:]] for table in found]

    @cached_property
    def links(self) -> set[str]:
        """Addresses, and the files of this repository that are linked or shown."""
        targets = re.findall(r"\]\(([^)]+)\)|(?:src|srcset)=\"([^\"]+)\"", self.prose)
        return {self._resolved(link or picture) for link, picture in targets}

    def _resolved(self, target: str) -> str:
        if target.startswith("https://"):
            return target
        return str((self.path.parent / target).resolve().relative_to(ROOT))


def cells(line: str) -> list[str]:
    """The cells of a row of a table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def spans(text: str) -> list[str]:
    """The inline code."""
    return re.findall(r"`([^`]+)`", text)


ENGLISH = Page(ROOT / "README.md")
CHINESE = Page(ROOT / ".github" / "README.zh.md")
COMMANDS, KNOWN, CODES, DEVELOPING, SCALE = ENGLISH.tables
PAGES = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=lambda page: page.path.name)


def test_both_have_the_same_blocks() -> None:
    assert [name for name, _ in ENGLISH.blocks] == [name for name, _ in CHINESE.blocks]
    assert ENGLISH.code("bash") == CHINESE.code("bash")
    for ours, theirs in zip(ENGLISH.code("yaml"), CHINESE.code("yaml"), strict=True):
        assert without_comments(ours) == without_comments(theirs)
    for ours, theirs in zip(ENGLISH.code(""), CHINESE.code(""), strict=True):
        assert names_in_tree(ours) == names_in_tree(theirs)
        assert len(names_in_tree(ours)) >= 8


@PAGES
def test_blocks_fit_into_the_page(page: Page) -> None:
    for _, text in page.blocks:
        for line in text.splitlines():
            assert sum(1 + (east_asian_width(char) in "WF") for char in line) <= MAX_COLUMNS, line


def without_comments(snippet: str) -> list[str]:
    return [line.partition("#")[0].rstrip() for line in snippet.splitlines()]


def names_in_tree(drawn: str) -> list[str]:
    """The files and folders in a drawing, without what is said of them."""
    return re.findall(r"^(?:[│ ]*[├└]── )?([\w.<>/-]+(?:  [\w.]+)*)", drawn, re.MULTILINE)


def test_both_have_the_same_commands_in_every_section_and_row() -> None:
    for ours, theirs in zip(ENGLISH.sections, CHINESE.sections, strict=True):
        assert Counter(spans(ours)) == Counter(spans(theirs))
    for our_table, their_table in zip(ENGLISH.tables, CHINESE.tables, strict=True):
        for our_row, their_row in zip(our_table, their_table, strict=True):
            assert [spans(cell) for cell in our_row] == [spans(cell) for cell in their_row]
            assert numbers(our_row) == numbers(their_row)


def numbers(row: list[str]) -> list[str]:
    return re.findall(r"\d[\d.,]*", " ".join(row))


def test_both_link_to_the_same_and_to_each_other() -> None:
    ours, theirs = ENGLISH.links, CHINESE.links
    assert ours - theirs == {".github/README.zh.md"}
    assert theirs - ours == {"README.md"}


@PAGES
def test_linked_files_are_there(page: Page) -> None:
    files = [link for link in page.links if not link.startswith("https://")]
    assert len(files) >= 5
    for name in files:
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("name", WIDTHS)
def test_the_picture_shows_a_run_that_was_killed_and_resumed(name: str) -> None:
    picture = ElementTree.parse(ROOT / ".github" / f"run-{name}.svg")
    shown = "".join(picture.getroot().itertext()).replace("\N{NO-BREAK SPACE}", " ")
    for words in ("continuum run quickstart", "Killed", "--why pretrain", "weights: done"):
        assert words in shown


def test_the_snippets_are_those_this_file_knows() -> None:
    assert Counter(name for name, _ in ENGLISH.blocks) == {"yaml": 1, "bash": 3, "": 2}


def test_the_experiment_and_the_commands_on_it_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "experiment.yaml").write_text(ENGLISH.code("yaml")[0], encoding="utf-8")
    for line in ("init -q", "add mine", "-c user.name=a -c user.email=a@b.c commit -q -m a"):
        subprocess.run(["git", *line.split()], check=True)
    cli = Cli()
    shown = [span for row in COMMANDS for span in spans(row[0])]
    shown += [span for row in KNOWN for span in spans(row[1]) if span.startswith("continuum ")]
    for command in shown:
        program, *words = command.split()
        assert program == "continuum"
        done = cli(*words)
        assert done.stdout.strip(), command
        assert "warning W" not in done.stdout + done.stderr, command
    for name in names_in_tree(ENGLISH.code("")[0])[1:]:
        for part in name.split():
            places = [part, f"runs/pretrain-*/{part}"]
            assert "<" in part or any(any(folder.glob(place)) for place in places), part


@PAGES
def test_verify_says_what_is_quoted(page: Page) -> None:
    (quoted,) = re.findall(r'`verify`[^"]+"([^"]+)"', page.prose)
    assert quoted in (ROOT / "continuum/cli/verify.py").read_text(encoding="utf-8")


def test_the_table_of_commands_has_them_all() -> None:
    listed = re.findall(r"^│ (\w+) {2,}", Cli()("--help").stdout, re.MULTILINE)
    assert len(listed) >= 17
    assert sorted(row[0].split()[1].strip("`") for row in COMMANDS) == sorted(listed)


def test_the_options_that_are_named_are_there() -> None:
    help_texts = {name: Cli()(name, "--help").stdout for name in ("run", "plan", "status")}
    for option in ("--set", "--locked", "--plan", "--max-time", "--unsafe-locks"):
        assert option in help_texts["run"]
    for option in ("--out", "--detailed-exitcode", "--why"):
        assert option in help_texts["plan"]
    assert "--json" in help_texts["status"]


def test_what_is_for_those_who_know_litgpt_is_valid(tmp_path: Path) -> None:
    assert len(KNOWN) == 12
    found = [span for row in KNOWN for span in spans(row[1]) if not span.startswith("continuum ")]
    lines = [yaml.safe_load(span.replace(", …", "")) for span in found]
    stages = {name: said for line in lines for name, said in line.items() if is_stage(said)}
    fields = [line for line in lines if not any(map(is_stage, line.values()))]
    assert stages.keys() == {"base", "tokens", "more", "own", "longer", "weights"}
    assert len(fields) == 6
    stages["more"] |= REST_OF_A_RETRAIN
    stages["texts"] = {"kind": "fetch", "sources": [{"path": "*.txt"}]}
    prepare(tmp_path)
    write(tmp_path, stages)
    assert "retrain" in Cli()("plan", tmp_path).stdout
    stages["old_tokens"] = stages["tokens"] | {"corpus": "old_texts"}
    stages["old_texts"] = {"kind": "fetch", "sources": [{"path": "a.txt"}]}
    del stages["longer"], stages["weights"]
    for said in fields:
        more = dict(stages["more"])
        if BUDGETS & said.keys():
            del more["max_steps"]
        write(tmp_path, {**stages, "more": more | said})
        Cli()("validate", tmp_path)


def is_stage(said: object) -> bool:
    return isinstance(said, dict) and "kind" in said


def write(folder: Path, stages: dict[str, Any]) -> None:
    document = {"continuum": 1, "name": "known", "stages": stages}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def prepare(folder: Path) -> None:
    """Write texts and a checkpoint."""
    for name in "ab":
        (folder / f"{name}.txt").write_text(f"Once upon a {name}.\n" * 40_000, encoding="utf-8")
    own = folder / "checkpoints" / "own"
    own.mkdir(parents=True)
    torch.save(GPT(Config(**FIELDS)).state_dict(), own / "lit_model.pth")
    (own / "model_config.yaml").write_text(yaml.safe_dump(FIELDS), encoding="utf-8")


def test_the_exit_codes_are_those_of_the_errors() -> None:
    said = {int(code) for row in CODES for code in spans(row[0])}
    errors = {error.exit_code for error in every_error(ContinuumError)} | {SpecError.exit_code}
    assert errors <= said
    assert said - errors == {0, 10, 130, 141}


def every_error(error: type[ContinuumError]) -> list[type[ContinuumError]]:
    return [error, *(it for below in error.__subclasses__() for it in every_error(below))]


def test_the_setup_commands_are_two() -> None:
    """`tests/test_ci.py` holds `.ci/run` to them."""
    run, test, _ = ENGLISH.code("bash")
    assert run == "pip install -e . && continuum run experiments/quickstart\n"
    assert test == "pip install -e '.[dev]' && pytest\n"


def test_the_commands_for_developers_name_what_is_there() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    markers = {it.partition(":")[0] for it in settings["tool"]["pytest"]["ini_options"]["markers"]}
    for command in [span for row in DEVELOPING for span in spans(row[0])]:
        program, *words = command.split()
        if program == "python":
            assert find_spec(words[1]), command
        elif program == "pytest":
            assert markers & set(re.findall(r"\w+", command)), command
        else:
            assert (ROOT / program).is_file(), command


def test_what_a_run_leaves_of_the_shipped_experiments_is_ignored() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    made = ("runs/x/stage.json", "continuum.lock", "lineage.json", ".gitignore")
    paths = [f"experiments/{name}/{file}" for name in NAMES for file in made]
    command = ["git", "check-ignore", "--no-index", *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == paths


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check"])
def test_the_development_commands_pass(command: str) -> None:
    assert command in ENGLISH.code("bash")[2]
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@PAGES
def test_the_tree_names_every_package(page: Page) -> None:
    shown = {name.strip("/") for name in names_in_tree(page.code("")[1])}
    below = (path for path in (ROOT / "continuum").iterdir() if path.is_dir())
    packages = {path.name for path in below if not path.name.startswith("_")}
    assert packages <= shown
    assert shown - packages == {"continuum", "configs", "experiments", "tests"}


def test_the_scale_of_a_checkpoint_is_twelve_bytes_a_parameter() -> None:
    sizes = re.findall(r"([\d.]+) GB ·", " ".join(SCALE[0]))
    assert [float(size) for size in sizes] == [12 * billions for billions in (1, 7, 70)]
