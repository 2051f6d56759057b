"""Every snippet of the README works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Cli
from tests.shipped import NAMES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
YAML = [text for language, text in BLOCKS if language == "yaml"]
BASH = [text for language, text in BLOCKS if language == "bash"]


def test_the_snippets_are_those_this_file_knows() -> None:
    assert len(YAML) == 1
    assert len(BASH) == 4
    assert {language for language, _ in BLOCKS} == {"yaml", "bash"}


def test_the_experiment_and_the_commands_on_it_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "experiments" / "mine"
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(YAML[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # `python -m continuum` in another folder still has to find this checkout.
    cli = Cli({"PYTHONPATH": str(ROOT)})
    for line in BASH[2].splitlines():
        command = line.partition("#")[0].split()
        assert command[0] == "continuum"
        done = cli(*command[1:])
        assert done.stdout.strip()
    drawn = README.partition("What a run leaves in the folder")[2].split("```")[1]
    names = re.findall(r"── ([\w./-]+\w)", drawn)
    assert len(names) >= 8
    for name in names:
        places = [name, f"runs/pretrain-*/{name}"]
        assert any(any(folder.glob(place)) for place in places if "<" not in place), name


def test_the_setup_commands_are_two() -> None:
    """`tests/test_ci.py` holds `.ci/run` to them."""
    assert BASH[0].startswith("pip install -e . && continuum run experiments/quickstart/")
    assert BASH[1].strip() == "pip install -e '.[dev]' && pytest"


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
    assert command in BASH[3]
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_the_tree_names_every_module_and_folder() -> None:
    tree = README.partition("## Where things are")[2]
    for path in (ROOT / "continuum").iterdir():
        if path.is_dir() and not path.name.startswith("_"):
            assert f"{path.name}/" in tree, path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_shipped_quickstart_runs_and_learns(tmp_path: Path) -> None:
    source = (ROOT / "experiments/quickstart/experiment.yaml").read_text(encoding="utf-8")
    (tmp_path / "experiment.yaml").write_text(source, encoding="utf-8")
    assert Cli()("run", tmp_path).stdout.count(" done ") == 9
