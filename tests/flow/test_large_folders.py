"""Many runs in one folder: records found whole are remembered, and damage is seen all the same."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from continuum.runs.files import SETTLED_S
from continuum.runs.fingerprint import fingerprint
from tests.benchmarks.bench_folders import CHECKPOINTS_EACH, fill, identity_of
from tests.benchmarks.chains import write_chain
from tests.commands import Cli, only

pytestmark = pytest.mark.slow

NUM_RUNS = 600
CACHE = "runs/.verified.json"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_chain(tmp_path_factory.mktemp("large"), 5)
    Cli()("run", folder)
    fill(folder, NUM_RUNS)
    time.sleep(SETTLED_S)
    return folder


def one_of(large: Path, number: int = 0) -> str:
    """One of the runs that `fill` makes, of no spec."""
    current = only(large / "runs", "s1-*")
    record = json.loads((current / "stage.json").read_text())
    (parent,) = (used["run"] for used in record["inputs"] if used["run"].startswith("s0-"))
    first = json.loads((large / "runs" / parent / "stage.json").read_text())
    return f"s0-{fingerprint(identity_of(first, number))[:12]}"


def rewrite(path: Path, old: str, new: str) -> None:
    """Change a file that has other names too, under this one alone; sizes stay."""
    assert len(old) == len(new)
    text = path.read_text()
    assert old in text
    path.unlink()
    path.write_text(text.replace(old, new))


def test_the_second_look_reads_no_record_again_and_says_the_same(large: Path) -> None:
    (large / CACHE).unlink(missing_ok=True)
    first = Cli()("verify", large, "--fast").stdout
    assert first.startswith(f"{NUM_RUNS + 5:,} runs, {NUM_RUNS * CHECKPOINTS_EACH + 2:,} check")
    written = (large / CACHE).stat().st_mtime_ns
    opened = Cli({"PYTHONPATH": _recorder(large)})("verify", large, "--fast")
    assert opened.stdout == first
    names = (large / "opened.txt").read_text().splitlines()
    assert CACHE in names
    assert [name for name in names if name.endswith(("manifest.json", "artifact.json"))] == []
    assert (large / CACHE).stat().st_mtime_ns == written


def _recorder(folder: Path) -> str:
    """A path with a `sitecustomize` that notes which files below the folder are opened."""
    place = folder / "recorder"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(
        f"""
import os, sys
folder, out = {str(folder)!r}, os.open({str(folder / "opened.txt")!r}, 0o1101)
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(folder):
        os.write(out, os.path.relpath(str(arguments[0]), folder).encode() + b"\\n")
sys.addaudithook(hook)
"""
    )
    return f"{place}:{os.environ.get('PYTHONPATH', '')}"


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (
        lambda run: only(run, "checkpoints/*2/lit_model.pth").unlink(),
        "step-00000002: lit_model.pth is missing",
    ),
    (
        lambda run: rewrite(
            only(run, "checkpoints/*2/manifest.json"), '"tokens_seen": 64', '"tokens_seen": 65'
        ),
        "step-00000002: manifest.json was changed after it was written",
    ),
    (
        lambda run: only(run, "checkpoints/*2/manifest.json").unlink(),
        "step-00000002: manifest.json is missing",
    ),
    (
        lambda run: rewrite(run / "artifact.json", '"size_bytes": 2', '"size_bytes": 3'),
        "artifact: artifact.json was changed after it was written",
    ),
    (
        lambda run: only(run, "output/lit_model.pth").unlink(),
        "artifact: lit_model.pth is missing",
    ),
    (lambda run: rewrite(run / "stage.json", '"name": "s0"', '"mane": "s0"'), "stage.json: "),
]


def test_damage_is_seen_though_all_was_whole_before(large: Path) -> None:
    """Each in another run, so that one command finds them all."""
    Cli()("verify", large, "--fast")
    runs = [large / "runs" / one_of(large, number) for number in range(len(DAMAGES))]
    kept = [large / f"kept{number}" for number in range(len(DAMAGES))]
    for run, copy in zip(runs, kept, strict=True):
        shutil.copytree(run, copy, copy_function=os.link)
    try:
        for run, (damage, _) in zip(runs, DAMAGES, strict=True):
            damage(run)
        found = Cli()("verify", large, "--fast", expect=8).stdout
    finally:
        for run, copy in zip(runs, kept, strict=True):
            shutil.rmtree(run)
            copy.rename(run)
    for run, (_, told) in zip(runs, DAMAGES, strict=True):
        assert f"runs/{run.name}: {told}" in found


def test_the_lineage_of_what_is_now_opens_no_other_run(large: Path) -> None:
    old = one_of(large)
    ancestry = Cli({"PYTHONPATH": _recorder(large)})("lineage", large).stdout
    assert ancestry.startswith("s1@step-4  training checkpoint")
    assert f"runs/{old}/stage.json" not in (large / "opened.txt").read_text()
    assert Cli()("lineage", large, f"{old}@step-3").stdout.startswith("s0@step-3  training check")


def test_a_plan_reads_a_local_file_once(tmp_path: Path) -> None:
    folder = write_chain(tmp_path, 4)
    time.sleep(SETTLED_S)
    for reads in (1, 0):
        plan = Cli({"PYTHONPATH": _recorder(folder)})("run", folder, "--set", "stages.s0=null")
        assert plan.returncode == 0
        opened = (folder / "opened.txt").read_text().splitlines()
        assert (opened.count("a.txt") > 0) == bool(reads)
