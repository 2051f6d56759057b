"""A second experiment in a folder is refused before it overwrites the first one's records."""

from pathlib import Path

import pytest

from tests.commands import Cli
from tests.planning.conftest import Write


def second(folder: Path, name: str) -> Path:
    path = folder / "second.yaml"
    text = (folder / "experiment.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("name: small", f"name: {name}"), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", [("run",), ("lock",), ("prune", "--yes")])
def test_a_second_spec_in_a_folder_is_refused(
    small: Write, cli: Cli, command: tuple[str, ...]
) -> None:
    folder = small()
    cli("run", folder)
    records = [folder / "continuum.lock", folder / "lineage.json"]
    before = [path.read_bytes() for path in records]
    refused = cli(*command, second(folder, "other"), expect=4).stderr
    assert "belong to experiment 'small'" in refused
    assert "experiment.yaml" in refused
    assert "to its own folder" in refused
    assert [path.read_bytes() for path in records] == before
    cli("run", folder, "--locked")


def test_two_specs_of_one_name_are_refused(small: Write, cli: Cli) -> None:
    folder = small()
    path = second(folder, "small")
    refused = cli("run", path, expect=4).stderr
    assert f"{folder / 'experiment.yaml'} is also named 'small'" in refused


def test_a_renamed_experiment_runs_on_beside_its_base(small: Write, cli: Cli) -> None:
    folder = small()
    cli("run", folder)
    path = second(folder, "renamed")
    (folder / "experiment.yaml").unlink()
    cli("run", path)
    assert "experiment: renamed" in (folder / "continuum.lock").read_text(encoding="utf-8")
    base = path.rename(folder / "base.yaml")
    path.write_text("extends: base.yaml\nname: derived\n", encoding="utf-8")
    cli("run", path)
    assert base.is_file()
