"""Training checkpoints: written whole, found whole, deleted whole.

A checkpoint is a folder in LitGPT's layout plus `manifest.json`. It is written beside its place
(same file system, whatever `$TMPDIR` is), hashed while written, flushed, given its manifest last,
and renamed. So a folder named `step-N` with a manifest was complete once; before it is loaded,
every byte is read again and compared.
"""

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.distributed.checkpoint.api import CheckpointException

from continuum.disk_errors import FULL, find_disk_error
from continuum.errors import IntegrityError, StageFailedError
from continuum.runs.artifacts import DataPosition, TrainingCheckpoint
from continuum.runs.files import (
    FileDigest,
    find_damage,
    fsync_folder,
    fsync_tree,
    hash_tree,
    remove_tree,
    tree_digest,
    write_json,
)
from continuum.runs.folder import StageRun
from continuum.runs.placing import put_in_place
from continuum.runs.records import MANIFEST, manifest_of, read_artifact
from continuum.runs.retention import Retention
from continuum.training.hashing_writer import HashingWriter
from continuum.training.litgpt import Config, save_config
from continuum.training.weights import SHARDS_DIR, WEIGHTS_FILE, copy_config_files, read_sharded


@dataclass(frozen=True)
class Companions:
    """What lies beside the tensors in every checkpoint of a run."""

    made: TrainingCheckpoint
    """What is alike in all of them; the path, files, counts and metrics are each one's own."""
    tokenizer_dir: Path
    recipe: dict[str, Any]
    """Written as `hyperparameters.yaml`, LitGPT's name for it; without any stage's name."""
    data_read: Callable[[int], dict[str, DataPosition] | None] = lambda _: None
    """Where training stands in each dataset at an optimizer step, by the dataset's digest."""
    tokenizer_sha256: Mapping[str, str] = field(default_factory=dict)
    """Of the tokenizer's files, by name, as the dataset's record has them."""


def write_checkpoint(
    run: StageRun, snapshot: dict[str, Any], companions: Companions
) -> TrainingCheckpoint:
    """Publish a snapshot as `checkpoints/step-N`, or leave nothing.

    Raises:
        StageFailedError: the disk is full or refuses; earlier checkpoints are untouched.
    """
    temporary = begin_checkpoint(run, snapshot["step"])
    with cleaned_up(temporary, run.checkpoint_dir(snapshot["step"])):
        written = save_hashed(without_metrics(snapshot), temporary / WEIGHTS_FILE)
        return finish_checkpoint(run, temporary, snapshot, companions, (written,))


def without_metrics(values: dict[str, Any]) -> dict[str, Any]:
    """A state as it is written: its losses are in the manifest, which hangs on who looks on."""
    return {name: value for name, value in values.items() if name != "metrics"}


def begin_checkpoint(run: StageRun, step: int) -> Path:
    """The empty folder beside its place in which a checkpoint is made.

    Raises:
        StageFailedError: the disk is full or refuses.
    """
    final = run.checkpoint_dir(step)
    temporary = final.with_name(f".{final.name}.tmp")
    with cleaned_up(temporary, final):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        fsync_folder(run.path)  # `checkpoints/` may be new
    return temporary


def finish_checkpoint(
    run: StageRun,
    temporary: Path,
    values: dict[str, Any],
    companions: Companions,
    hashed: tuple[FileDigest, ...] = (),
) -> TrainingCheckpoint:
    """Add the companions and the manifest to a folder with the tensors, and publish it.

    Args:
        values: Step, tokens and metrics of the state inside.
        hashed: Digests of files that were hashed while they were written.

    Raises:
        StageFailedError: the disk is full or refuses; earlier checkpoints are untouched.
    """
    final = run.checkpoint_dir(values["step"])
    with cleaned_up(temporary, final):
        written = _fill(temporary, values, companions, hashed)
        put_in_place(temporary, final)
    return written.model_copy(update={"path": final})


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The snapshot in a checkpoint folder; a single file's tensors are memory-mapped."""
    if (folder / SHARDS_DIR).is_dir():
        return read_sharded(folder)
    return load_plain(folder / WEIGHTS_FILE)


@contextmanager
def cleaned_up(temporary: Path, final: Path) -> Iterator[None]:
    """On an error of the disk, remove what was begun and say what to do.

    Raises:
        StageFailedError: the disk is full or refuses, here or, of shards, for any process.
    """
    try:
        yield
    except (OSError, RuntimeError, CheckpointException) as error:
        cause = error if isinstance(error, OSError) else find_disk_error(error, final.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        if cause is None:
            raise
        is_full = cause.errno in FULL
        step = int(final.name.removeprefix("step-"))
        remedy = "free some space" if is_full else "make the folder writable"
        raise StageFailedError(
            f"the checkpoint of step {step:,} cannot be written in {final.parent}: "
            f"{cause.strerror}; earlier checkpoints are whole: {remedy} and run again"
        ) from error


def read_all(folder: Path, files: tuple[FileDigest, ...]) -> list[str]:
    """Read every byte; what differs from the record."""
    return find_damage(folder, files, read=True)


def newest_whole(
    run: StageRun, find: Callable[[Path, tuple[FileDigest, ...]], list[str]] = read_all
) -> tuple[TrainingCheckpoint | None, dict[str, str]]:
    """The newest checkpoint whose bytes are as recorded; of newer ones, by name, what is wrong.

    Args:
        find: What differs between the files of a checkpoint's folder and their record.
    """
    skipped: dict[str, str] = {}
    for name in reversed(run.checkpoint_names()):
        folder = run.checkpoints_dir / name
        try:
            found = read_artifact(folder)
            damage = find(folder, found.files)
        except IntegrityError as error:
            damage = [str(error).replace(f"{folder}/", "")]
        if not damage:
            assert isinstance(found, TrainingCheckpoint)
            return found, skipped
        skipped[name] = f"{name} is damaged and was passed over: {damage[0]}"
    return None, skipped


def put_aside(run: StageRun, name: str) -> None:
    """Hide a damaged checkpoint from whatever looks for one, retention too; kept until the end."""
    aside = run.checkpoints_dir / f".{name}.damaged"
    remove_tree(aside)
    (run.checkpoints_dir / name).replace(aside)


def discard_damaged(run: StageRun) -> None:
    """Remove the checkpoints that were put aside."""
    for damaged in run.checkpoints_dir.glob(".*.damaged"):
        remove_tree(damaged)


def retain(run: StageRun, retention: Retention) -> list[TrainingCheckpoint]:
    """Delete all checkpoints that the policy does not keep.

    Decided from what is on disk, so it holds over restarts; returns what was deleted.
    """
    saved = run.checkpoints()
    kept = retention.keeps_of(saved)
    deleted = [c for c in saved if c.step not in kept]
    for checkpoint in deleted:
        doomed = checkpoint.path.with_name(f".{checkpoint.path.name}.deleted.tmp")
        checkpoint.path.replace(doomed)
        remove_tree(doomed)
    return deleted


def _fill(
    folder: Path,
    values: dict[str, Any],
    companions: Companions,
    hashed: tuple[FileDigest, ...],
) -> TrainingCheckpoint:
    save_config(Config(**companions.made.model_config_fields), folder)
    copy_config_files(companions.tokenizer_dir, folder)
    recipe = yaml.safe_dump(companions.recipe, sort_keys=False, allow_unicode=True)
    (folder / "hyperparameters.yaml").write_text(recipe, encoding="utf-8")
    files = hash_tree(folder, known=hashed)
    for file in files:
        if companions.tokenizer_sha256.get(file.path, file.sha256) != file.sha256:
            raise IntegrityError(
                f"{companions.tokenizer_dir / file.path} was changed during the training, and no "
                "checkpoint is written with it; run the stage that made the dataset with --rerun"
            )
    learned = values["tokens_seen"] - values["skipped_tokens"]
    same = ("step", "skipped_steps", "skipped_tokens", "skipped_in_a_row")
    own = {
        **{name: values[name] for name in same},
        "path": folder,
        "tokens_seen": learned,
        "tokens_total": values["tokens_before"] + learned,
        "tokens_total_known": values["tokens_before_known"],
        "files": files,
        "digest": tree_digest(files),
        "metrics": {k: v for k, v in values["metrics"].items() if math.isfinite(v)},
        "data_read": companions.data_read(values["step"]),
    }
    checkpoint = companions.made.model_copy(update=own)
    document = manifest_of(checkpoint)
    fsync_tree(folder)
    write_json(folder / MANIFEST, document)
    return checkpoint.model_copy(update={"seal": document["seal"]})


def load_plain(path: Path) -> dict[str, Any]:
    """A file of tensors and plain values, memory-mapped on the CPU."""
    loaded: dict[str, Any] = torch.load(path, mmap=True, map_location="cpu", weights_only=True)
    return loaded


def save_hashed(values: dict[str, Any], path: Path) -> FileDigest:
    """`torch.save` that hashes what it writes and flushes it to the disk."""
    with path.open("wb") as file, HashingWriter(file) as writer:
        torch.save(values, writer)  # type: ignore[arg-type]  # only `write` is called
        file.flush()
        os.fsync(file.fileno())
    return FileDigest(path=path.name, size_bytes=writer.size_bytes, sha256=writer.sha256)
