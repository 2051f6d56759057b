"""`continuum schema` and `continuum init` as processes; the shell's completion."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from continuum.loading.json_schema import schema_text
from continuum.loading.load import load_experiment
from continuum.runs.artifacts import ModelWeights
from continuum.runs.folder import ExperimentFolder
from tests.commands import Cli, only
from tests.schema.documents import document, is_accepted

TEMPLATES = ("quickstart", "scratch", "continue")
COMMANDS = ("init", "validate", "plan", "run", "status", "explain", "schema")


def test_the_schema_goes_to_stdout_or_to_a_file(cli: Cli, tmp_path: Path) -> None:
    assert cli("schema").stdout == schema_text()
    out = tmp_path / "below" / "s.json"
    out.parent.mkdir()
    out.write_text("old", encoding="utf-8")
    done = cli("schema", "--out", out)
    assert done.stdout == ""
    assert out.read_text(encoding="utf-8") == schema_text()


def test_a_schema_that_cannot_be_written_is_an_ordinary_error(cli: Cli, tmp_path: Path) -> None:
    done = cli("schema", "--out", tmp_path, expect=2)
    assert str(tmp_path) in done.stderr


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_validates_plans_and_matches_the_schema(
    template: str, cli: Cli, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / template
    done = cli("init", folder, "--template", template)
    spec = folder / "experiment.yaml"
    assert done.stdout == f"{spec}\n"
    for name in ("texts", "texts/new", "texts/old"):
        (folder / name).mkdir()
        (folder / name / "a.txt").write_text(f"Once upon a {name}.\n" * 4000, encoding="utf-8")
    assert f"{template}: valid" in cli("validate", folder).stdout
    warnings = re.findall("warning(.{5})", cli("plan", folder).stdout)
    assert set(warnings) <= {" W003"}, "only what a run pins"
    assert is_accepted(document(spec))
    first, *others = spec.read_text(encoding="utf-8").splitlines()
    _, _, schema = first.partition("# yaml-language-server: $schema=")
    assert (folder / schema).read_text(encoding="utf-8") == schema_text()
    assert sum(line.lstrip().startswith("#") or "  # " in line for line in others) > 15


def test_the_default_is_the_quickstart_in_the_current_folder(cli: Cli, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    cli("init")
    assert load_experiment(tmp_path / "experiment.yaml").name == "quickstart"


def test_what_is_there_is_never_overwritten(cli: Cli, tmp_path: Path) -> None:
    spec, schema = tmp_path / "experiment.yaml", tmp_path / "experiment.schema.json"
    spec.write_text("mine", encoding="utf-8")
    done = cli("init", tmp_path, expect=2)
    assert f"{spec} already exists" in done.stderr
    assert spec.read_text(encoding="utf-8") == "mine"
    assert not schema.exists()
    spec.unlink()
    schema.write_text("{}", encoding="utf-8")
    cli("init", tmp_path)
    assert schema.read_text(encoding="utf-8") == "{}"


def test_a_folder_that_is_a_file_is_an_ordinary_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "is a file" in cli("init", tmp_path / "file", expect=2).stderr
    assert "file/below" in cli("init", tmp_path / "file" / "below", expect=4).stderr


def test_an_unknown_template_is_a_usage_error_that_lists_them(cli: Cli, tmp_path: Path) -> None:
    done = cli("init", tmp_path, "--template", "scatch", expect=2)
    listed = "quickstart, scratch, continue; did you mean 'scratch'?"
    assert done.stderr == f"error: --template scatch: must be one of {listed}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_quickstart_template_runs_to_the_end(cli: Cli, tmp_path: Path) -> None:
    cli("init", tmp_path)
    cli("run", tmp_path)
    run = only(tmp_path, "runs/weights-*")
    weights = ExperimentFolder(tmp_path).run("weights", run.name.rpartition("-")[2]).artifact()
    assert isinstance(weights, ModelWeights)
    assert weights.step == 80
    assert "80" in cli("status", tmp_path).stdout


def completion(shell: str, typed: str) -> str:
    """What the shell is told for a line that ends where the cursor is."""
    command = shutil.which("continuum", path=str(Path(sys.executable).parent))
    assert command, "installed with the package"
    asked = {
        "bash": {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": typed},
        "fish": {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    environment = {**os.environ, **asked, "_CONTINUUM_COMPLETE": f"complete_{shell}"}
    done = subprocess.run([command], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "shell",
    [
        "bash",
        pytest.param("zsh", marks=pytest.mark.slow),
        pytest.param("fish", marks=pytest.mark.slow),
    ],
)
def test_the_shell_completes_commands_and_options(shell: str) -> None:
    offered = completion(shell, "continuum ")
    assert all(command in offered for command in COMMANDS)
    offered = completion(shell, "continuum p")
    assert "plan" in offered
    assert "validate" not in offered
    assert "--template" in completion(shell, "continuum init --t")
    assert "quickstart" in completion(shell, "continuum init --template q")


def in_bash(option: str, home: Path) -> str:
    """The command run from bash, the shell that typer then finds itself."""
    command = shutil.which("continuum", path=str(Path(sys.executable).parent))
    done = subprocess.run(
        ["bash", "-c", f"{command} {option}; exit $?"],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(home)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_completion_script_is_shown_and_installed(tmp_path: Path) -> None:
    shown = in_bash("--show-completion", tmp_path)
    assert "_CONTINUUM_COMPLETE=complete_bash" in shown
    in_bash("--install-completion", tmp_path)
    (installed,) = (tmp_path / ".bash_completions").iterdir()
    assert installed.read_text(encoding="utf-8").strip() == shown.strip()
    assert str(installed) in (tmp_path / ".bashrc").read_text(encoding="utf-8")
    checked = subprocess.run(["bash", "-n"], input=shown, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_what_cannot_be_explained_is_a_usage_error(cli: Cli) -> None:
    done = cli("explain", "sequence_lenght", expect=2)
    assert done.stdout == ""
    assert "did you mean 'sequence_length'?" in done.stderr


def test_explain_and_schema_print_one_document_each(cli: Cli) -> None:
    assert json.loads(cli("schema").stdout)["$schema"].startswith("https://json-schema.org/")
    assert json.loads(cli("explain", "lr", "--json").stdout)["schema"] == "continuum.explain/1"
