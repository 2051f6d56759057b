"""What is shipped is valid and without warnings; a spec that is not says why."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from tests.commands import Cli
from tests.shipped import NAMES, ROOT

BASES = sorted(path.name for path in ROOT.glob("configs/*.yaml"))
MODEL = "pythia-160m.yaml"
"""The base that says how a model is trained; the others say on what."""


def complaints(cli: Cli, folder: Path) -> set[str]:
    """The warnings of `validate` and `plan`: their codes, and sentences that have none."""
    texts = [cli("validate", folder).stderr, cli("plan", folder).stdout]
    lines = [line for text in texts for line in text.splitlines() if is_complaint(line)]
    return {found[1] if (found := re.search(r"\b(W\d{3}):", line)) else line for line in lines}


def is_complaint(line: str) -> bool:
    """True for a warning, and for the note that part of the budget is not used.

    That this machine has no GPU is not the spec's fault.
    """
    return bool(re.search(r"\bwarning( \w+)?:|not a whole number", line)) and "E403" not in line


def explained(spec: Path) -> set[str]:
    """The codes of warnings that comments of a spec speak of."""
    comments = re.findall("#(.*)", spec.read_text(encoding="utf-8"))
    return {code for comment in comments for code in re.findall(r"\bW\d{3}\b", comment)}


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_has_only_the_warnings_that_its_comments_explain(
    name: str, cli: Cli, shipped: Path
) -> None:
    folder = shipped / "experiments" / name
    assert complaints(cli, folder) == explained(folder / "experiment.yaml")


def test_the_quickstart_has_no_warning_at_all(cli: Cli, shipped: Path) -> None:
    assert complaints(cli, shipped / "experiments" / "quickstart") == set()


@pytest.mark.parametrize("base", BASES)
def test_an_experiment_that_extends_a_base_has_no_warning(
    base: str, cli: Cli, shipped: Path
) -> None:
    folder = shipped / "experiments" / "mine"
    folder.mkdir()
    write_pinned(folder / "experiment.yaml", dict.fromkeys([MODEL, base]))
    assert complaints(cli, folder) == set()
    assert f"configs/{base}" in cli("render", folder, "--origins").stdout


def write_pinned(path: Path, bases: Iterable[str]) -> None:
    """Write the experiment at real size with these bases, its sources pinned."""
    document = yaml.safe_load(
        (ROOT / "experiments/pythia-160m-gutenberg/experiment.yaml").read_text(encoding="utf-8")
    )
    document["extends"] = [f"../../configs/{base}" for base in bases]
    for stage in document["stages"].values():
        if "revision" in stage:
            stage["revision"] = "0" * 40
        for source in stage.get("sources", ()):
            source["sha256"] = "0" * 64
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quickstart_runs_without_a_warning_and_learns(tmp_path: Path) -> None:
    shutil.copy(ROOT / "experiments/quickstart/experiment.yaml", tmp_path)
    done = Cli()("run", tmp_path)
    assert done.stdout.count(" done ") == 10
    assert not [line for line in done.stderr.splitlines() if is_complaint(line)]
    assert complaints(Cli(), tmp_path) == set()  # also when all that it makes is known
    for stage in ("pretrain", "retrain"):
        losses = re.findall(rf"^{stage}: step \d+  val_loss ([\d.]+)", done.stderr, re.MULTILINE)
        assert float(losses[-1]) < float(losses[0])
    (scores,) = tmp_path.glob("runs/scores-*/output/scores.json")
    rows = json.loads(scores.read_text(encoding="utf-8"))
    loss = {(row["model"], row["text"]): row["loss"] for row in rows}
    assert loss["retrain", "code_tokens"] < loss["weights", "code_tokens"]
    assert loss["weights", "prose_tokens"] < loss["retrain", "prose_tokens"], "some is forgotten"
