"""`continuum doctor`: the environment as it is, and what an experiment would miss."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from continuum.planning.doctor import lock_problems, unpaired
from tests.commands import Cli
from tests.experiments import FIRST_STAGES


def asked(cli: Cli, *arguments: object, expect: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("doctor", *arguments, "--json", expect=expect).stdout)
    assert found["schema"] == "continuum.doctor/1"
    return found


@pytest.mark.slow
def test_nothing_is_missing_for_a_small_experiment(
    experiment: Callable[..., Path], cli: Cli
) -> None:
    spec = experiment()
    found = asked(cli, spec)
    assert found["missing"] == []
    assert found["environment"]["distributions"]["pytest"] == pytest.__version__
    torch = found["environment"]["torch"]["torch"]
    assert torch.startswith(found["environment"]["versions"]["torch"])
    assert [path.name for path in spec.parent.iterdir()] == [spec.name], "it writes nothing"
    assert cli("doctor").stdout.endswith("nothing is missing\n")


@pytest.mark.slow
def test_what_a_spec_needs_and_this_machine_lacks_is_reported(
    experiment: Callable[..., Path], tmp_path: Path
) -> None:
    hidden = tmp_path / "bin"
    hidden.mkdir()
    runtime = {"num_nodes": 2, "accelerator": "cuda", "devices": 99, "micro_batch_size": 1}
    spec = experiment(only=FIRST_STAGES, pretrain__runtime=runtime, pretrain__global_batch_size=198)
    missing = asked(Cli({"PATH": str(hidden)}), spec, expect=4)["missing"]
    assert any("git is not installed" in line for line in missing)
    assert any(line.startswith("pretrain: runtime.num_nodes is 2, which needs") for line in missing)
    lacks = ("pretrain: runtime.accelerator is cuda, but", "pretrain: runtime.devices is 99, but")
    assert any(line.startswith(lacks) for line in missing)


def test_a_broken_torch_is_an_error_and_not_a_bug(tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError('libcudart.so.13: cannot open')\n")
    done = Cli({"PYTHONPATH": str(broken.parent)})("doctor", expect=4)
    assert "cannot import torch: OSError: libcudart.so.13: cannot open" in done.stdout


def test_a_read_only_folder_is_reported() -> None:
    (told,) = lock_problems(Path("/proc/sys"))
    assert told.startswith("cannot write and lock files in the experiment's folder: ")


@pytest.mark.parametrize(
    ("torch", "torchvision", "fits"),
    [("2.9.1+cpu", "0.24.1", True), ("2.9.1", "0.23.0", False), ("2.10.0", "0.25.0", True),
     ("2.9.1", None, True), ("built-here", "0.24", True)],
)  # fmt: skip
def test_torch_and_torchvision_come_from_one_release(
    torch: str, torchvision: str | None, fits: bool
) -> None:
    assert (list(unpaired(torch, torchvision)) == []) is fits
