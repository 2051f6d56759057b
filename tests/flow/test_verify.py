"""`continuum verify` finds whatever differs from its record, and changes nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from continuum.formatting import format_bytes
from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, small_flow
from tests.forging import Edit, forge, reseal


@pytest.fixture(scope="module")
def finished(run_once: Callable[[str], Path]) -> Path:
    return run_once(small_flow(only=FIRST_STAGES))


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def test_an_untouched_folder_passes_verification(finished: Path, cli: Cli) -> None:
    done = cli("verify", finished)
    assert done.stdout.startswith("4 runs, 3 checkpoints, ")
    document = json.loads(cli("verify", finished, "--fast", "--json").stdout)
    assert (document["schema"], document["ok"]) == ("continuum.verify/1", True)
    sizes = [p.stat().st_size for p in finished.glob("runs/*/output/**/*") if p.is_file()]
    assert document["num_bytes"] > sum(sizes) > 0


def test_locked_runs_that_are_not_in_the_folder_are_not_called_verified(
    copied: Path, cli: Cli
) -> None:
    assert "not verified" not in cli("verify", copied).stdout
    shutil.rmtree(only(copied, "runs/pretrain-*"))
    told = cli("verify", copied).stdout
    assert "not verified: continuum.lock records them, but their runs are not in this" in told
    assert told.endswith("folder: pretrain\n")
    shutil.rmtree(copied / "runs")
    done = cli("verify", copied)
    assert done.stdout.splitlines()[-1].endswith(": prose, tokenizer, tokens and 1 more")
    document = json.loads(cli("verify", copied, "--json").stdout)
    assert document["not_here"] == ["prose", "tokenizer", "tokens", "pretrain"]


@pytest.mark.parametrize(
    ("pattern", "damage", "told", "is_seen_fast"),
    [
        ("runs/prose-*/output/*", flip, "does not match its recorded checksum", False),
        ("runs/prose-*/output/*", Path.unlink, "is missing", True),
        (
            "runs/pretrain-*/checkpoints/step-00000010/lit_model.pth",
            flip,
            "step-00000010: lit_model.pth does not match its recorded checksum",
            False,
        ),
        (
            "runs/pretrain-*/checkpoints/step-00000010/manifest.json",
            edit('"tokens_seen": 2560', '"tokens_seen": 9999'),
            "step-00000010: manifest.json was changed",
            True,
        ),
        (
            "runs/tokens-*/artifact.json",
            edit('"sha256": "', '"sha256": "0'),
            "artifact.json was changed",
            True,
        ),
    ],
)
def test_damage_is_found_where_it_is(
    copied: Path,
    cli: Cli,
    pattern: str,
    damage: Callable[[Path], None],
    told: str,
    is_seen_fast: bool,
) -> None:
    damage(only(copied, pattern))
    before = {p: p.stat().st_mtime_ns for p in copied.rglob("*")}
    assert told in cli("verify", copied, expect=8).stdout
    cli("verify", copied, "--fast", expect=8 if is_seen_fast else 0)
    assert {p: p.stat().st_mtime_ns for p in copied.rglob("*")} == before


FORGERIES: dict[str, tuple[str, Edit, str]] = {
    "the tokens": (
        "artifact.json", lambda it: it["artifact"].update(tokens_total=1),
        "artifact: artifact.json was changed",
    ),
    "a metric": (
        "artifact.json", lambda it: it["artifact"]["metrics"].update(val_loss=0.1),
        "artifact: artifact.json was changed",
    ),
    "a commit": (
        "stage.json", lambda it: it["provenance"].update(git={"commit": "0" * 40}),
        "stage.json: was changed",
    ),
    "an input": (
        "stage.json", lambda it: it["inputs"][0].update(digest="0" * 64),
        "stage.json: was changed",
    ),
    "the device": (
        "resolved.json", lambda it: it.update(device="NVIDIA H100"),
        "resolved.json: was changed",
    ),
    "a checkpoint's loss": (
        "checkpoints/step-00000010/manifest.json", lambda it: it["metrics"].update(val_loss=0.1),
        "step-00000010: manifest.json was changed",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("file", "edit", "told"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_record_of_a_training_is_found(
    copied: Path, cli: Cli, file: str, edit: Edit, told: str
) -> None:
    forge(only(copied, f"runs/pretrain-*/{file}"), edit)
    assert told in cli("verify", copied, "--fast", expect=8).stdout


def test_a_forged_loss_is_found_in_the_metrics(copied: Path, cli: Cli) -> None:
    path = only(copied, "runs/pretrain-*/metrics.jsonl")
    loss = json.loads(path.read_text().splitlines()[3])["loss"]
    edit(str(loss), str(loss)[:-1] + ("1" if str(loss)[-1] != "1" else "2"))(path)
    told = cli("verify", copied, expect=8).stdout
    assert "metrics.jsonl: was changed after the run was finished" in told
    path.write_text(path.read_text() + '{"step": 21, "loss": 0.1}\n')
    cli("verify", copied, "--fast", expect=8)


def test_a_resealed_checkpoint_is_not_one_that_the_run_ended_with(copied: Path, cli: Cli) -> None:
    run = only(copied, "runs/pretrain-*")
    manifest = run / "checkpoints/step-00000010/manifest.json"
    kept = (run / "artifact.json").read_bytes()
    forge(manifest, lambda it: it.update(tokens_total=1))
    reseal(run)
    (run / "artifact.json").write_bytes(kept)
    told = cli("verify", copied, "--fast", expect=8).stdout
    assert "step-00000010: its manifest.json was changed after the run was finished" in told
    selected = cli("plan", copied, "--set", "stages.pretrain.max_steps=20").stdout
    assert "reuse" in selected
    assert "tokens_total" not in cli("lineage", copied, "pretrain@step-20").stdout
    cli("lineage", copied, "pretrain@step-10", expect=2)


def test_a_missing_input_is_reported(copied: Path, cli: Cli) -> None:
    shutil.rmtree(only(copied, "runs/tokenizer-*"))
    found = json.loads(cli("verify", copied, "--json", expect=8).stdout)["findings"]
    assert [(f["run"].split("-")[0], f["what"]) for f in found] == [("tokens", "input tokenizer")]


def test_an_input_rebuilt_with_other_content_is_reported(copied: Path, cli: Cli) -> None:
    run = only(copied, "runs/pretrain-*")
    forge(run / "stage.json", lambda record: record["inputs"][0].update(digest="0" * 64))
    reseal(run)
    (copied / "continuum.lock").unlink()
    found = json.loads(cli("verify", copied, "--json", expect=8).stdout)["findings"]
    assert [f["what"] for f in found] == ["input tokens"]
    assert "the content of runs/" in found[0]["problem"]


def test_a_folder_that_was_replaced_by_a_link_is_named(
    copied: Path, tmp_path: Path, cli: Cli
) -> None:
    output = only(copied, "runs/prose-*/output")
    run = only(copied, "runs/tokens-*")
    moved = [tmp_path / "output", tmp_path / "tokens"]
    for path, place in zip((output, run), moved, strict=True):
        path.rename(place)
        path.symlink_to(place)
    links = {f"{output.parent.name}/output", run.name}
    for options in ((), ("--fast",)):
        assert set(json.loads(cli("verify", copied, "--json", *options).stdout)["links"]) == links
    shown = cli("verify", copied).stdout
    assert "a link in place of a folder" in shown
    assert all(f"runs/{link}" in shown for link in links)
    shutil.rmtree(moved[1])
    done = cli("verify", copied, expect=8)
    assert f"runs/{run.name}: folder: is a link to {moved[1]}, which does not exist" in done.stdout


def test_the_bytes_of_the_runs_are_one_number(finished: Path, cli: Cli) -> None:
    """A checkpoint is linked into `output/`: it is on the disk once."""
    verified = json.loads(cli("verify", finished, "--json").stdout)["num_bytes"]
    listed = json.loads(cli("runs", finished, "--json").stdout)["runs"]
    assert verified == sum(it["size_bytes"] for it in listed)
    output = only(finished, "runs/pretrain-*/output")
    size = format_bytes(sum(path.stat().st_size for path in output.iterdir()))
    assert f"4 checkpoints of {size} (3 kept)" in cli("plan", finished).stdout
