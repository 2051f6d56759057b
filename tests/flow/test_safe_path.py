"""What lies in the current folder, or beside the spec, never replaces what is installed."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import pytest

from tests.commands import TIMEOUT_S, Cli, only
from tests.experiments import FIRST_STAGES, small_flow
from tests.flow.foreign_modules import PACKAGE, SINGLE, executed, plant, plant_checkout

MODULE = [sys.executable, "-m", "continuum"]
SETTINGS = PACKAGE.parent / "pyproject.toml"


def spec(devices: int = 1) -> str:
    runtime = {"micro_batch_size": 2, "devices": devices}
    return small_flow(only=FIRST_STAGES, pretrain__max_steps=2, pretrain__runtime=runtime)


def call(
    command: list[str], *arguments: object, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def weights(folder: Path) -> str:
    record = json.loads(only(folder, "runs/pretrain-*/artifact.json").read_text())
    (file,) = (f for f in record["artifact"]["files"] if f["path"] == "lit_model.pth")
    return str(file["sha256"])


@pytest.fixture(scope="module")
def expected(run_once: Callable[[str], Path]) -> Path:
    """The experiment after a run in a folder without any module."""
    return run_once(spec())


@pytest.fixture
def prepare(expected: Path, tmp_path: Path) -> Callable[..., Path]:
    """The experiment with its pretraining still to do, and foreign modules beside the spec."""

    def copy(devices: int = 1) -> Path:
        folder = tmp_path / "toy"
        shutil.copytree(expected, folder)
        shutil.rmtree(only(folder, "runs/pretrain-*"))
        (folder / "experiment.yaml").write_text(spec(devices), encoding="utf-8")
        return plant(folder, "litgpt")

    return copy


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    """The console script as pip writes it, with foreign modules beside it, too."""
    declared = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = declared["continuum"].partition(":")
    path = plant(tmp_path / "bin", "litgpt") / "continuum"
    begin = f"if __name__ == '__main__':\n    sys.exit({function}())\n"
    code = f"import sys\nfrom {module} import {function}\n{begin}"
    path.write_text(code, encoding="utf-8")
    return [sys.executable, str(path)]


@pytest.mark.slow
@pytest.mark.parametrize("is_module", [True, False])
@pytest.mark.parametrize(
    ("options", "devices"),
    [((), 1), (("--in-process",), 1), ((), 2)],
    ids=["fork server", "in process", "torchrun"],
)
def test_a_run_imports_what_is_installed(
    options: tuple[str, ...],
    devices: int,
    is_module: bool,
    script: list[str],
    prepare: Callable[..., Path],
    expected: Path,
    tmp_path: Path,
) -> None:
    folder = prepare(devices)
    if is_module:
        here = plant_checkout(plant(tmp_path / "here", "litgpt"))
        call(MODULE, "run", folder, *options, folder=here)
    else:  # in the experiment's folder
        plant(tmp_path / "more", "continuum")
        (tmp_path / "more" / "continuum").rename(folder / "continuum")
        call(script, "run", ".", *options, folder=folder)
    assert executed(tmp_path) == []
    assert devices > 1 or weights(folder) == weights(expected)


@pytest.mark.parametrize(
    ("path", "is_module"), [(":", False), (".", False), ("lib:.:/nowhere", False), (".", True)]
)
def test_relative_entries_of_pythonpath_are_left_out(
    path: str, is_module: bool, script: list[str], tmp_path: Path
) -> None:
    here = plant(tmp_path / "here", "litgpt")
    plant(here / "lib", "litgpt")
    (here / "experiment.yaml").write_text(spec(), encoding="utf-8")
    command = MODULE if is_module else script
    told = call(command, "validate", here, folder=here, PYTHONPATH=path).stderr
    assert executed(tmp_path) == []
    for entry in ("lib", "."):
        warning = f"warning: PYTHONPATH: skipping the relative path {entry!r}"
        assert (warning in told) == (entry in path.split(":"))


def test_absolute_entries_of_pythonpath_are_kept(tmp_path: Path) -> None:
    (tmp_path / "continuum").mkdir()
    chosen = "print('chosen')\n"
    for name in ("__init__.py", "__main__.py"):
        (tmp_path / "continuum" / name).write_text(chosen, encoding="utf-8")
    here = plant_checkout(plant(tmp_path / "here"))
    told = call(MODULE, "validate", "x", folder=here, PYTHONPATH=str(tmp_path))
    assert told.stdout.startswith("chosen")


def test_a_checkout_that_is_installed_runs_from_its_own_folder() -> None:
    assert call(MODULE, "--version", folder=PACKAGE.parent).stdout.startswith("continuum ")


def code_lines(folder: Path) -> list[dict[str, Any]]:
    lines = only(folder, "runs/prose-*/attempts.jsonl").read_text(encoding="utf-8").splitlines()
    return [line["packages"] for line in map(json.loads, lines) if line["event"] == "code"]


def test_the_record_says_where_the_code_comes_from(
    experiment: Callable[..., Path], cli: Cli
) -> None:
    folder = experiment(only=("prose",)).parent
    told = cli("run", folder).stderr
    (packages,) = code_lines(folder)
    assert "warning" not in told
    assert packages["continuum"]["origin"] == "editable"
    assert packages["continuum"]["file"] == str(PACKAGE / "__init__.py")
    assert packages["torch"]["version"] == version("torch")
    assert (packages["litgpt"]["origin"], packages["litgpt"]["is_dirty"]) == ("installed", False)


@pytest.mark.parametrize("options", [(), pytest.param(("--in-process",), marks=pytest.mark.slow)])
def test_a_package_that_is_not_the_installed_one_is_named(
    options: tuple[str, ...], experiment: Callable[..., Path], tmp_path: Path
) -> None:
    folder = experiment(only=("prose",)).parent
    chosen = plant(tmp_path / "chosen", "litgpt") / "litgpt" / "__init__.py"
    for name in SINGLE:
        (tmp_path / "chosen" / name).unlink()
    path = f"{tmp_path / 'chosen'}:{PACKAGE.parent}"
    told = Cli({"PYTHONPATH": path})("run", folder, *options).stderr
    assert f"prose: warning: litgpt is imported from {chosen}, not from where it is" in told
    (packages,) = code_lines(folder)
    assert packages["litgpt"] == {"file": str(chosen), "origin": "elsewhere"}


def test_a_package_that_was_edited_where_it_is_installed_is_named(
    experiment: Callable[..., Path], tmp_path: Path
) -> None:
    folder = experiment(only=("prose",)).parent
    library = tmp_path / "library"
    original = distribution("litgpt")
    for name in ("litgpt", f"litgpt-{original.version}.dist-info"):
        shutil.copytree(str(original.locate_file(name)), library / name)
    with (library / "litgpt" / "constants.py").open("a", encoding="utf-8") as file:
        file.write("# one more line\n")
    told = Cli({"PYTHONPATH": f"{library}:{PACKAGE.parent}"})("run", folder).stderr
    words = f"litgpt {original.version} was changed after it was installed: litgpt/constants.py"
    assert f"prose: warning: {words}" in told


def test_a_variable_of_python_changes_no_exit_code(tmp_path: Path) -> None:
    plain = call(MODULE, "explain", "W002", folder=tmp_path)
    other = call(MODULE, "explain", "W002", folder=tmp_path, PYTHONINSPECT="1", PYTHONOPTIMIZE="2")
    assert (other.stdout, other.stderr) == (plain.stdout, plain.stderr)
