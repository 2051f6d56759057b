"""`--locked`: nothing else than what continuum.lock says, before the run and after it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.commands import Cli
from tests.planning.carrying_out import run
from tests.planning.conftest import Write
from tests.planning.edits import add_a_stage, edit, other_book, remove_a_stage

RUN = ("run", "--in-process", "--plain", "--locked")
Change = Callable[[Path], None]


@pytest.fixture
def folder(small: Write) -> Path:
    path = small()
    run(path)
    return path


def edit_lock(*keys: str, to: object) -> Change:
    def change(folder: Path) -> None:
        path = folder / "continuum.lock"
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        place = document
        for key in keys[:-1]:
            place = place[key]
        if to is None:
            del place[keys[-1]]
        else:
            place[keys[-1]] = to
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    return change


def test_a_rename_is_no_deviation(folder: Path, cli: Cli) -> None:
    edit("tokenizer:", "bpe:")(folder)
    cli(*RUN, folder)


def test_what_auto_became_is_part_of_what_is_locked(
    crashed: Path, tmp_path: Path, cli: Cli
) -> None:
    folder, other = tmp_path / "one", tmp_path / "other"
    shutil.copytree(crashed, folder)
    run(folder).raise_for_failure()
    locked = yaml.safe_load((folder / "continuum.lock").read_text())["stages"]
    assert {name: it.get("precision") for name, it in locked.items() if "precision" in it} == {
        "pretrain": "32-true", "longer": "32-true",
    }  # fmt: skip
    cli(*RUN, folder)
    shutil.copytree(folder, other)
    edit_lock("stages", "pretrain", "precision", to="bf16-mixed")(folder)
    told = cli(*RUN, folder, expect=6).stderr
    assert "pretrain: its precision is 32-true here, not bf16-mixed" in told
    shutil.rmtree(next((folder / "runs").glob("pretrain-*")))
    on_cpu = Cli(environment={"CUDA_VISIBLE_DEVICES": ""})
    told = on_cpu(*RUN, folder, expect=6).stderr
    assert "its precision is 32-true here" in told, "before anything is trained"
    changes = json.loads(cli("diff", folder, other, "--json").stdout)["lock"]
    assert changes == [
        {
            "stage": "pretrain", "what": "precision", "name": "precision",
            "old": "bf16-mixed", "new": "32-true",
        }
    ]  # fmt: skip
    edit_lock("stages", "pretrain", "precision", to=None)(folder)
    shutil.rmtree(folder / "runs")
    shutil.copytree(other / "runs", folder / "runs")
    cli(*RUN, folder)


def test_two_folders_whose_runs_became_other_precisions_differ(
    crashed: Path, tmp_path: Path, cli: Cli
) -> None:
    other = tmp_path / "other"
    shutil.copytree(crashed, other)
    path = next((other / "runs").glob("pretrain-*")) / "resolved.json"
    path.write_text(path.read_text().replace("32-true", "bf16-mixed"), encoding="utf-8")
    assert "precision 32-true -> bf16-mixed" in cli("diff", crashed, other).stdout


def test_a_lock_that_is_met_is_run(folder: Path, cli: Cli) -> None:
    before = (folder / "continuum.lock").read_bytes()
    cli("plan", folder, "--locked")
    assert cli(*RUN, folder).stdout.count("reused") == 3
    shutil.rmtree(folder / "runs")
    assert cli(*RUN, folder).stdout.count("done") == 3
    assert (folder / "continuum.lock").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "deviation"),
    [
        (edit("vocab_size: 270", "vocab_size: 280"), "tokenizer: its fingerprint is "),
        (other_book, "book: its fingerprint is "),
        (add_a_stage, "more: not in the lockfile"),
        (remove_a_stage, "tokenizer: in the lockfile but not in the spec"),
        (edit_lock("stages", "book", to=None), "book: not in the lockfile"),
        (edit_lock("versions", "torch", to="1.0"), "torch is version "),
        (
            edit_lock("stages", "book", "artifact", to=None),
            "book: has not run since its pins were upgraded",
        ),
        (lambda folder: (folder / "continuum.lock").unlink(), "no continuum.lock to compare with"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_deviation_is_refused_before_anything_starts(
    change: Change, deviation: str, folder: Path, cli: Cli
) -> None:
    change(folder)
    before = sorted(folder.rglob("*"))
    for command in (RUN, ("plan", "--locked")):
        assert deviation in cli(*command, folder, expect=6).stderr
    assert {p for p in folder.rglob("*") if p.parent.parent == folder / "runs"} <= set(before)


def test_every_deviation_is_listed(folder: Path, cli: Cli) -> None:
    edit("vocab_size: 270", "vocab_size: 280")(folder)
    add_a_stage(folder)
    edit_lock("versions", "litgpt", to="0.1")(folder)
    told = cli(*RUN, folder, "--set", "seed=5", "--rerun", "notes", expect=6).stderr
    listed = [line.split()[1] for line in told.splitlines() if line[:4] == "  - "]
    assert listed == ["--set", "--rerun", "tokenizer:", "more:", "litgpt"]
    assert "run without --locked to accept this and update the lockfile" in told


def test_other_bytes_at_the_end_are_not_reproduced(folder: Path, cli: Cli) -> None:
    edit_lock("stages", "tokenizer", "artifact", to="d" * 64)(folder)
    before = (folder / "continuum.lock").read_bytes()
    told = cli(*RUN, folder, expect=9).stderr
    assert "tokenizer: its artifact is " in told
    assert f", not {'d' * 12}" in told
    assert "book:" not in told
    assert (folder / "continuum.lock").read_bytes() == before


def test_a_kept_plan_stays_locked(folder: Path, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    cli("plan", folder, "--locked", "--out", path)
    edit_lock("versions", "torch", to="1.0")(folder)
    told = cli("run", "--in-process", folder, "--plan", path, expect=6).stderr
    assert "torch is version" in told
