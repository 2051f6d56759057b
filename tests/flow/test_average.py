"""A new kind of stage is one new file: a copy of the package with it does all that others do."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import continuum
from continuum.training.weights import load_weights
from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, TOY_MODEL, TRAINING, small_stages

PACKAGE = Path(continuum.__file__).parent
KIND = Path(__file__).with_name("average_kind.py")
CHECKPOINTS = ["pretrain@step-10", "pretrain"]


@dataclass(frozen=True)
class Extended:
    """An experiment that uses the new kind, and the command of the package that has it."""

    root: Path
    cli: Cli

    @property
    def folder(self) -> Path:
        return self.root / "averaged"

    def write(self, name: str, checkpoints: list[str], **more: dict[str, Any]) -> Path:
        """The experiment with these checkpoints to average, and more stages; in its own folder."""
        path = self.root / name / "experiment.yaml"
        path.parent.mkdir()
        stages: dict[str, Any] = {stage: small_stages()[stage] for stage in FIRST_STAGES}
        stages |= more
        stages["average"] = {"kind": "average", "checkpoints": checkpoints}
        goes_on = {"kind": "retrain", "from": "average", "data": "tokens", "max_steps": 2}
        stages["retrain"] = {**goes_on, **TRAINING}
        document = {"continuum": 1, "name": name, "stages": stages}
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extended]:
    """A copy of the package with one more file, found before the installed one."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(PACKAGE, root / "continuum", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(KIND, root / "continuum" / "stages" / "average.py")
    # The model is tiny: on a busy machine more threads than one only wait for each other.
    made = Extended(root, Cli({"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}))
    made.write("averaged", CHECKPOINTS)
    with pytest.MonkeyPatch.context() as patch:
        # `python -m` looks into the working folder before PYTHONPATH.
        patch.chdir(root)
        yield made


@pytest.fixture(scope="module")
def finished(extended: Extended) -> Path:
    """The experiment's folder after a run."""
    extended.cli("run", extended.folder)
    return extended.folder


def test_the_installed_package_does_not_know_the_kind(
    extended: Extended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PACKAGE.parent)
    refused = Cli({"PYTHONPATH": ""})("validate", extended.folder, expect=3).stderr
    assert "there is no kind 'average'" in refused


def test_the_kind_is_validated_and_planned(extended: Extended) -> None:
    assert "valid, 6 stages" in extended.cli("validate", extended.folder).stdout
    planned = extended.cli("plan", extended.folder).stdout
    assert ["average", "average"] in [line.split()[:2] for line in planned.splitlines()]


@pytest.mark.parametrize(
    ("checkpoints", "complaint"),
    [
        pytest.param(["pretrain"], "at least 2", id="one"),
        pytest.param(["pretrain", "tokens"], "'tokens' makes a tokenized dataset", id="no model"),
        pytest.param(["pretrain", "pretran"], "did you mean 'pretrain'", id="misspelt"),
        pytest.param(["pretrain", "pretrain@final"], "is named twice", id="twice"),
    ],
)
def test_mistakes_are_found_with_their_line(
    extended: Extended, tmp_path: Path, checkpoints: list[str], complaint: str
) -> None:
    path = extended.write(tmp_path.name, checkpoints)
    lines = path.read_text().splitlines()
    refused = " ".join(extended.cli("validate", path, expect=3).stderr.split())
    assert complaint in refused
    number = int(refused.partition("experiment.yaml:")[2].partition(":")[0])
    first = lines.index("    checkpoints:")
    assert number - 1 in range(first, first + 1 + len(checkpoints))


def test_the_plan_refuses_to_average_different_models(extended: Extended, tmp_path: Path) -> None:
    deeper = {**small_stages()["pretrain"], "model": {**TOY_MODEL, "n_layer": 3}}
    path = extended.write(tmp_path.name, ["pretrain", "deeper"], deeper=deeper)
    refused = extended.cli("plan", path, expect=4).stderr
    assert "average: checkpoints: 'deeper' and 'pretrain' are different models" in refused


def test_the_mean_of_the_checkpoints_is_written(finished: Path) -> None:
    first = load_weights(only(finished, "runs/pretrain-*/checkpoints/step-00000010"))
    second = load_weights(only(finished, "runs/pretrain-*/output"))
    mean = load_weights(only(finished, "runs/average-*/output"))
    assert mean.keys() == first.keys()
    for name, tensor in mean.items():
        assert not torch.equal(first[name], second[name])
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)


def test_the_result_is_a_whole_checkpoint_folder(finished: Path) -> None:
    names = {path.name for path in only(finished, "runs/average-*/output").iterdir()}
    assert names >= {
        "lit_model.pth",
        "model_config.yaml",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_the_lineage_leads_through_the_average_to_both_checkpoints(
    extended: Extended, finished: Path
) -> None:
    tree = extended.cli("lineage", finished).stdout
    after = tree[tree.index("derived average  model weights") :]
    assert "derived pretrain@step-10  training checkpoint" in after
    assert "derived pretrain@step-20  training checkpoint" in after


def test_a_second_run_reuses_everything(extended: Extended, finished: Path) -> None:
    assert extended.cli("run", finished).stdout.count("reused") == 6
