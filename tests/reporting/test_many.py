"""A report of many finished runs: quick, complete, and no larger than a browser likes."""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.benchmarks.bench_folders import copy_run
from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, small_flow, small_stages
from tests.in_process import plan_folder
from tests.reporting.test_report import lines_of, num_points

pytestmark = pytest.mark.slow
NUM_RUNS = 1_000
LIMIT_S = 10.0
"""Of processor time, which other work on the machine does not add to."""
MAX_BYTES = 6_000_000


@pytest.fixture(scope="module")
def many(run_once: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec of many pretrainings that differ in their seed, each with a copy of one's records."""
    made = run_once(small_flow(only=FIRST_STAGES))
    folder = shutil.copytree(made, tmp_path_factory.mktemp("many") / "many")
    stages = small_stages()
    pretrain = stages["pretrain"]
    document = yaml.safe_load((folder / "experiment.yaml").read_text())
    names = [f"seed{number}" for number in range(NUM_RUNS)]
    document["stages"] |= {name: {**pretrain, "seed": n + 100} for n, name in enumerate(names)}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    model = only(folder, "runs/pretrain-*")
    record = json.loads((model / "stage.json").read_text())
    artifact = json.loads((model / "artifact.json").read_text())
    plan = plan_folder(folder)
    for name in names:
        planned = plan.stages[name]
        own = {
            "name": name,
            "identity": planned.identity.payload,
            "fingerprint": planned.fingerprint,
            "spec": planned.stage.model_dump(mode="json", by_alias=True),
        }
        checkpoints = sorted(model.glob("checkpoints/step-*"))
        copy_run(model, planned.run.path, checkpoints, {**record, **own}, artifact)
    return folder


def test_a_thousand_runs_are_reported_in_seconds(many: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "continuum", "report", str(many)]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < LIMIT_S


def test_all_of_them_are_in_the_page(many: Path) -> None:
    Cli()("report", many)
    path = many / "results" / "report.html"
    page = path.read_text(encoding="utf-8")
    assert f"Complete: all {NUM_RUNS + 4:,} stages have finished." in page
    assert f'id="stage-seed{NUM_RUNS - 1}"' in page
    assert [num_points(line) for line in lines_of(page, "loss_")] == [20] * (NUM_RUNS + 1)
    assert "is too large to be drawn" in page
    assert path.stat().st_size < MAX_BYTES
