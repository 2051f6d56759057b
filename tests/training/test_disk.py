"""What a plan says of the disk: how much lies there at once, and what does not fit."""

import gc
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from continuum.experiment.forecast import DiskNeed, Forecast
from continuum.experiment.recipe import intervals_of
from continuum.planning.plan import Plan
from continuum.preflight.disk import DiskBudget, checkpoints_need, free_bytes, held
from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.folder import ExperimentFolder
from continuum.runs.retention import Retention
from tests.commands import Cli
from tests.experiments import FIRST_STAGES, small_flow
from tests.in_process import plan_folder
from tests.training.samples import Trials, Write, make_recipe

POLICIES: list[dict[str, Any]] = [
    {"every": 10},
    {"every": 10, "keep_last": 4},
    {"every": 30, "keep_last": 9},
    {"every": 10, "keep_every": 20},
    {"every": 10, "keep_every": 25, "keep_last": 3},
    {"every": 7, "keep_every": 7},
    {"every": None},
    {"every": 10, "keep_best": "val_loss"},
    {"every": 10, "keep_best": "val_loss", "keep_every": 30},
]


@pytest.mark.parametrize("selected", [(), (35,), (20, 35, 100), (140,)], ids=str)
@pytest.mark.parametrize("start", [0, 45], ids=["fresh", "resumed"])
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_no_more_lies_on_the_disk_than_the_plan_says(
    policy: dict[str, Any], start: int, selected: tuple[int, ...], write: Write
) -> None:
    recipe = make_recipe(max_steps=100, runtime={"checkpoint": policy})
    need = checkpoints_need(recipe, 1, 100, start)
    told = held(need, selected)
    # The best at the worst place for the disk: the very first.
    template = write(1)
    intervals = intervals_of(recipe, 100)
    retention = Retention(
        keep_last=recipe.runtime.checkpoint.keep_last,
        keep_steps=frozenset(selected),
        keep_every=intervals.keep_every,
        keep_best=recipe.runtime.checkpoint.keep_best,
    )
    every = intervals.checkpoint_every
    there: list[TrainingCheckpoint] = []
    most = 0
    for step in range(start + 1, 101):
        if (every and step % every == 0) or step in selected or step == 100:
            there.append(_at(template, step))
            most = max(most, len(there))
            kept = retention.keeps_of(there)
            there = [saved for saved in there if saved.step in kept]
    assert most <= told[0] <= most + (retention.keep_best is not None)
    assert len(there) <= told[1] <= len(there) + (retention.keep_best is not None)


def _at(template: TrainingCheckpoint, step: int) -> TrainingCheckpoint:
    changed = {"step": step, "metrics": {"val_loss": float(step)}}
    return template.model_copy(update=changed)


def test_a_run_with_endless_checkpoints_is_bounded_without_playing_it_through() -> None:
    policy = {"every": 1, "keep_every": 1000, "keep_last": 5, "minutes": 1.0}
    recipe = make_recipe(max_steps=10**9, runtime={"checkpoint": policy})
    assert held(checkpoints_need(recipe, 1, 10**9, 0), (17,)) == (10**6 + 7, 10**6 + 6)


def test_a_checkpoint_is_as_large_as_the_plan_says(trials: Trials) -> None:
    trials.run(only=FIRST_STAGES)
    facts = plan_of(trials.folder).stages["pretrain"].forecast.facts
    size = (trials.stage_run("pretrain").output_dir / "lit_model.pth").stat().st_size
    assert size == pytest.approx(facts["checkpoint_bytes"], rel=0.1)  # names, random state
    assert facts["disk_bytes"] == 4 * facts["checkpoint_bytes"]


def plan_of(folder: Path) -> Plan:
    return plan_folder(folder)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes file systems of so many kilobytes."""
    made: list[Path] = []

    def mount(size_kb: int) -> Path:
        folder = tmp_path / f"disk-{size_kb}"
        folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs"]
        done = subprocess.run(["mount", *options, folder], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("this user may not mount a file system")
        made.append(folder)
        return folder

    yield mount
    for folder in made:
        gc.collect()  # What is still memory-mapped keeps the disk busy.
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_cannot_hold_what_retention_keeps_is_a_problem(
    disk: Callable[[int], Path],
) -> None:
    folder = disk(2600)  # a checkpoint of this model takes about 700 kB
    text = small_flow(only=FIRST_STAGES)
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
    (problem,) = map(str, plan_of(folder).problems)
    assert problem.startswith("up to 4 checkpoints of about 69")
    assert problem.endswith(
        "free some space on the experiment's disk, or keep fewer (keep_last, keep_every)"
    )
    smaller = text.replace("keep_last: 3", "keep_last: 2")
    (folder / "experiment.yaml").write_text(smaller, encoding="utf-8")
    assert plan_of(folder).problems == []


def test_the_stages_of_a_plan_share_the_disk(disk: Callable[[int], Path]) -> None:
    folder = disk(3300)
    stages = (*FIRST_STAGES, "longer", "weights")
    (folder / "experiment.yaml").write_text(small_flow(only=stages), encoding="utf-8")
    longer, weights = map(str, plan_of(folder).problems)
    assert longer.startswith("up to 2 checkpoints")
    assert "of which earlier stages take 2.1 MB: free some space" in longer
    assert weights.startswith("its output takes about 233.0 kB, 3.4 MB are free, of which")


def test_stages_that_are_at_work_share_the_disk_until_they_end(tmp_path: Path) -> None:
    first, second = (ExperimentFolder(tmp_path).run(name, "0" * 64) for name in ("a", "b"))
    forecast = Forecast(disk=DiskNeed(free_bytes(tmp_path) * 3 // 5))
    budget = DiskBudget(at_work=True)
    assert not budget.claim(forecast, first, ()).problems
    (problem,) = budget.claim(forecast, second, ()).problems
    assert "of which earlier stages take" in problem.message
    for run in (first, second):
        budget.release(run)
    assert not budget.claim(forecast, second, ()).problems


def test_what_lies_there_already_is_no_new_need(disk: Callable[[int], Path]) -> None:
    folder = disk(4600)
    trials = Trials(folder)
    trials.write(only=FIRST_STAGES, prose__sources=[{"python": "argparse.py"}])
    assert plan_of(folder).problems == []
    trials.carry_out(stop_at=17)
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(900_000))
    assert plan_of(folder).problems == []
    ballast.write_bytes(bytes(1_800_000))
    (problem,) = map(str, plan_of(folder).problems)
    assert "2.3 MB already exist" in problem


def test_a_temporary_directory_without_room_is_a_problem(
    disk: Callable[[int], Path], tmp_path: Path
) -> None:
    temporary = disk(600)
    (tmp_path / "experiment.yaml").write_text(small_flow(only=FIRST_STAGES), encoding="utf-8")
    told = Cli({"TMPDIR": str(temporary)})("plan", tmp_path).stdout
    assert "warning E403" in told
    assert f"the temporary directory {temporary} has 614.4 kB free" in " ".join(told.split())
    assert "set TMPDIR to another folder" in " ".join(told.split())


def test_torch_compile_wants_more_of_the_temporary_directory(
    disk: Callable[[int], Path], tmp_path: Path
) -> None:
    # torch itself sets the second where it has compiled before.
    environment = {"TMPDIR": str(disk(20_000)), "TORCHINDUCTOR_CACHE_DIR": ""}
    text = small_flow(only=FIRST_STAGES)
    (tmp_path / "experiment.yaml").write_text(text, encoding="utf-8")
    Cli(environment)("plan", tmp_path)
    compiled = text.replace("micro_batch_size: 4", "micro_batch_size: 4\n      compile: 'on'")
    (tmp_path / "experiment.yaml").write_text(compiled, encoding="utf-8")
    told = Cli(environment)("plan", tmp_path).stdout
    assert "torch.compile need up to 53.5 MB" in " ".join(told.split())
    Cli({**environment, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")})("plan", tmp_path)


def test_a_dataset_larger_than_the_disk_is_a_problem(disk: Callable[[int], Path]) -> None:
    folder = disk(3000)
    text = "all work and no play makes a dull model\n" * 25_000
    (folder / "book.txt").write_text(text, encoding="utf-8")
    source = folder / "experiment.yaml"
    source.write_text(
        small_flow(only=FIRST_STAGES[:3], prose__sources=[{"path": "book.txt"}]), encoding="utf-8"
    )
    found = plan_of(folder)
    assert found.problems == []
    Trials(folder).run(only=("prose",), prose__sources=[{"path": "book.txt"}])
    source.write_text(
        small_flow(only=FIRST_STAGES[:3], prose__sources=[{"path": "book.txt"}]), encoding="utf-8"
    )
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(500_000))
    (warning,) = map(str, plan_of(folder).stages["tokens"].forecast.warnings)
    assert warning.startswith("the tokens of this corpus may take 666.7 kB, but ")
    ballast.write_bytes(bytes(870_000))
    (problem,) = map(str, plan_of(folder).problems)
    assert problem.startswith("its output takes about 250.0 kB, ")
