import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from litgpt import Config
from litgpt.scripts.convert_pretrained_checkpoint import convert_pretrained_checkpoint

from continuum.errors import PreflightError, StageFailedError
from continuum.runs.files import find_damage, hash_tree, tree_digest
from continuum.runs.folder import StageRun
from continuum.runs.retention import Retention
from continuum.training.checkpoint import Companions, retain, write_checkpoint
from continuum.training.recovery import discard_damaged, newest_intact, put_aside, read_checkpoint
from continuum.training.weights import extract_weights, load_weights
from tests.training.samples import (
    FIELDS,
    Write,
    assert_equal_tensors,
    damaged,
    steps_of,
)


def test_a_checkpoint_folder_is_litgpts_with_a_manifest(write: Write) -> None:
    saved = write(10)
    assert sorted(path.name for path in saved.path.iterdir()) == [
        "hyperparameters.yaml",
        "lit_model.pth",
        "manifest.json",
        "model_config.yaml",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert saved.path.name == "step-00000010"
    assert Config.from_file(saved.path / "model_config.yaml") == Config(**FIELDS)
    recipe = yaml.safe_load((saved.path / "hyperparameters.yaml").read_text(encoding="utf-8"))
    assert recipe["optimizer"] == {"name": "AdamW", "lr": 0.01}


def test_all_files_of_a_tokenizer_are_carried_on(
    write: Write, beside: Companions, tmp_path: Path
) -> None:
    names = {"special_tokens_map.json", "vocab.txt", "merges.txt", "chat_template.jinja"}
    for name in names:
        (beside.tokenizer_dir / name).write_text("{}")
    saved, out = write(10), tmp_path / "weights"
    out.mkdir()
    extract_weights(saved.path, out)
    for folder in (saved.path, out):
        assert names < {path.name for path in folder.iterdir()}


def test_the_manifest_tells_the_truth_about_the_folder(write: Write) -> None:
    manifest = write(10)
    assert (manifest.step, manifest.tokens_seen, manifest.tokens_total) == (10, 64, 1064)
    assert manifest.metrics == {"loss": 1.5}


def test_the_manifests_digests_are_those_of_the_files(write: Write) -> None:
    saved = write(10)
    on_disk = [f for f in hash_tree(saved.path) if f.path != "manifest.json"]
    assert list(saved.files) == on_disk
    assert saved.digest == tree_digest(on_disk)
    assert not find_damage(saved.path, saved.files, read=True)


def test_it_is_found_and_read_as_it_was_written(
    write: Write, run: StageRun, snapshot: dict[str, Any]
) -> None:
    saved = write(10)
    assert run.checkpoints() == [saved]
    loaded = read_checkpoint(saved.path)
    assert_equal_tensors(loaded["model"], snapshot["model"])
    assert loaded["rng"][0]["cpu"].equal(snapshot["rng"][0]["cpu"])
    assert torch.load(saved.path / "lit_model.pth", weights_only=True)["step"] == 10


def test_the_same_snapshot_makes_the_same_bytes(write: Write, tmp_path: Path) -> None:
    other = StageRun(tmp_path / "runs" / "other-000000000000")
    assert hash_tree(write(10).path) == hash_tree(write(10, into=other).path)


def test_litgpts_converter_takes_it_and_gives_our_weights(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, ours, theirs = write(10), tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    assert extract_weights(saved.path, ours) == hash_tree(ours)
    convert_pretrained_checkpoint(saved.path, theirs)
    expected = torch.load(theirs / "lit_model.pth", weights_only=True)
    assert_equal_tensors(torch.load(ours / "lit_model.pth", weights_only=True), expected)
    kept = ("model_config.yaml", "tokenizer.json", "tokenizer_config.json")
    assert not find_damage(ours, [f for f in hash_tree(theirs) if f.path in kept], read=True)


def test_weights_of_another_shape_than_their_config_are_not_converted(
    write: Write, tmp_path: Path
) -> None:
    folder = write(10).path
    config = folder / "model_config.yaml"
    config.write_text(config.read_text().replace("n_layer: 2", "n_layer: 3"))
    (tmp_path / "out").mkdir()
    with pytest.raises(
        PreflightError, match=r"does not match model_config.yaml: it has .* parameters, but"
    ):
        extract_weights(folder, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04broken"], ids=repr)
def test_an_unreadable_file_of_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lit_model.pth").write_bytes(content)
    with pytest.raises(PreflightError, match="is not a LitGPT checkpoint: it is"):
        load_weights(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="not found; a LitGPT checkpoint folder has it"):
        load_weights(tmp_path)


def test_a_run_without_checkpoints_has_no_newest(run: StageRun) -> None:
    assert newest_intact(run) == (None, {})


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "a flipped bit": flipped,
    "a lost end": lambda data: data[:-2],
    "no bytes": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "no file": lambda data: None,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_and_named(
    write: Write, run: StageRun, damage: str
) -> None:
    older, newest = write(5), write(10)
    for name in sorted(path.name for path in newest.path.iterdir()):
        path = newest.path / name
        with damaged(path, DAMAGE[damage](path.read_bytes())):
            found, passed_over = newest_intact(run)
        assert found == older, name
        told = passed_over["step-00000010"]
        assert told.startswith("step-00000010 is corrupt; skipped: ")
        assert name in told
    assert newest_intact(run) == (newest, {})


@pytest.mark.parametrize(
    ("field", "value"), [("step", 11), ("tokens_seen", 1), ("digest", "0" * 64), ("metrics", {})]
)
def test_a_manifest_that_was_changed_is_not_believed(
    write: Write, run: StageRun, field: str, value: object
) -> None:
    older, newest = write(5), write(10)
    path = newest.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    found, passed_over = newest_intact(run)
    assert found == older
    assert run.checkpoints() == [older], "nobody else takes it for one either"
    assert "manifest.json was changed after it was written" in passed_over["step-00000010"]


def test_a_checkpoint_under_another_name_is_none(write: Write, run: StageRun) -> None:
    older, newest = write(5), write(10)
    shutil.copytree(older.path, run.checkpoint_dir(15))
    shutil.copytree(older.path, run.checkpoints_dir / "step-00000020.old")
    assert run.checkpoints() == [older, newest]
    found, passed_over = newest_intact(run)
    assert found == newest
    assert list(passed_over) == ["step-00000015"]
    assert "belongs to step 5; the folder was copied or renamed" in passed_over["step-00000015"]


def test_links_that_lead_nowhere_are_damage(write: Write, run: StageRun) -> None:
    older, newest = write(5), write(10)
    weights = newest.path / "lit_model.pth"
    weights.unlink()
    weights.symlink_to(weights)
    assert run.checkpoints() == [older]
    found, passed_over = newest_intact(run)
    assert found == older
    assert "lit_model.pth cannot be read" in passed_over["step-00000010"]


def test_what_is_put_aside_is_seen_by_nobody_and_kept_until_the_end(
    write: Write, run: StageRun
) -> None:
    for step in (5, 10, 15):
        write(step)
    put_aside(run, "step-00000015")
    assert steps_of(run.checkpoints()) == [5, 10]
    assert not retain(run, Retention(keep_last=2)), "it is none of the last ones"
    assert (run.checkpoints_dir / ".step-00000015.damaged" / "lit_model.pth").exists()
    discard_damaged(run)
    assert sorted(path.name for path in run.checkpoints_dir.iterdir()) == [
        "step-00000005",
        "step-00000010",
    ]


def test_of_a_checkpoint_on_another_disk_the_link_is_deleted(
    write: Write, run: StageRun, tmp_path: Path
) -> None:
    for step in (5, 10, 15):
        write(step)
    moved = tmp_path / "elsewhere"
    run.checkpoint_dir(5).rename(moved)
    run.checkpoint_dir(5).symlink_to(moved)
    assert steps_of(retain(run, Retention(keep_last=2))) == [5]
    assert steps_of(run.checkpoints()) == [10, 15]
    assert (moved / "manifest.json").exists()


def test_when_all_are_damaged_every_one_is_named(write: Write, run: StageRun) -> None:
    for step in (5, 10):
        (write(step).path / "lit_model.pth").unlink()
    found, passed_over = newest_intact(run)
    assert found is None
    assert list(passed_over) == ["step-00000010", "step-00000005"]


def test_a_damaged_checkpoint_gives_way_when_its_step_is_saved_again(
    write: Write, run: StageRun
) -> None:
    (write(10).path / "lit_model.pth").write_bytes(b"")
    again = write(10)
    assert newest_intact(run) == (again, {})
    assert [path.name for path in run.checkpoints_dir.iterdir()] == ["step-00000010"]


def test_the_last_ones_and_the_selected_ones_are_kept(write: Write, run: StageRun) -> None:
    for step in (5, 10, 15, 20):
        write(step)
    deleted = retain(run, Retention(keep_last=2, keep_steps=frozenset({5})))
    assert steps_of(deleted) == [10]
    assert steps_of(run.checkpoints()) == [5, 15, 20]
    assert sorted(path.name[:5] for path in run.checkpoints_dir.iterdir()) == ["step-"] * 3


def test_what_is_kept_is_decided_from_the_disk_alone(write: Write, run: StageRun) -> None:
    for step in (5, 10, 15):
        write(step)
    program = (
        "import sys; from pathlib import Path; from continuum.runs.folder import StageRun;"
        "from continuum.runs.retention import Retention;"
        "from continuum.training.checkpoint import retain;"
        "retain(StageRun(Path(sys.argv[1])), Retention(keep_last=2))"
    )
    subprocess.run([sys.executable, "-c", program, run.path], check=True)
    assert steps_of(run.checkpoints()) == [10, 15]


def test_a_folder_that_cannot_be_written_is_told(write: Write, run: StageRun) -> None:
    run.checkpoints_dir.write_text("a file where the folder should be")
    with pytest.raises(StageFailedError, match=r"step 3 cannot be written .*move away the file"):
        write(3)


def test_nan_is_a_value_like_any_other_when_weights_are_extracted(
    tmp_path: Path, snapshot: dict[str, Any], run: StageRun, beside: Companions
) -> None:
    nan = {name: torch.full_like(t, float("nan")) for name, t in snapshot["model"].items()}
    saved = write_checkpoint(run, {**snapshot, "model": nan}, beside)
    (tmp_path / "out").mkdir()
    extract_weights(saved.path, tmp_path / "out")
    assert all(tensor.isnan().all() for tensor in load_weights(tmp_path / "out").values())
