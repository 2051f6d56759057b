"""Write, publish and delete training checkpoints.

A checkpoint is a folder in LitGPT's layout plus `manifest.json`. It is written next to its final
place (same file system, whatever `$TMPDIR` is), hashed while being written, flushed, given its
manifest last, and renamed. So a folder named `step-N` with a manifest was complete once; before it
is loaded, every byte is read again and compared (`continuum.training.recovery`).
"""

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml
from torch.distributed.checkpoint.api import CheckpointException

from continuum.disk_errors import REFUSED, disk_remedy, find_disk_error
from continuum.errors import IntegrityError, StageFailedError
from continuum.runs.artifacts import WEIGHTS_FILE, DataPosition, TrainingCheckpoint
from continuum.runs.files import (
    FileDigest,
    fsync_folder,
    fsync_tree,
    hash_tree,
    remove_tree,
    tree_digest,
    write_json,
)
from continuum.runs.folder import StageRun
from continuum.runs.placing import put_in_place
from continuum.runs.records import MANIFEST, manifest_of
from continuum.runs.retention import Retention
from continuum.training.litgpt import Config, save_config
from continuum.training.weights import copy_config_files

PARALLEL_BYTES = 1 << 18
"""Larger blocks are hashed in a thread while they are written; hashing releases the GIL."""
FLUSHED_BYTES = 1 << 22
"""Flushed to disk at a time."""


@dataclass(frozen=True)
class Companions:
    """The contents of a run's checkpoints besides the tensors."""

    shared: TrainingCheckpoint
    """The fields that all of them share; path, files, counters and metrics differ."""
    tokenizer_dir: Path
    recipe: dict[str, Any]
    """Written as `hyperparameters.yaml`, LitGPT's name for it; has no stage names."""
    data_read: Callable[[int], dict[str, DataPosition] | None] = lambda _: None
    """The position in each dataset at an optimizer step, by the dataset's digest."""
    tokenizer_sha256: Mapping[str, str] = field(default_factory=dict)
    """Of the tokenizer's files, by name, from the dataset's record."""


def write_checkpoint(
    run: StageRun, snapshot: dict[str, Any], companions: Companions
) -> TrainingCheckpoint:
    """Publish a snapshot as `checkpoints/step-N`, or leave nothing behind.

    Raises:
        StageFailedError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    temporary = begin_checkpoint(run, snapshot["step"])
    with cleaned_up(temporary, run.checkpoint_dir(snapshot["step"])):
        written = save_hashed(without_metrics(snapshot), temporary / WEIGHTS_FILE)
        return finish_checkpoint(run, temporary, snapshot, companions, (written,))


def without_metrics(values: dict[str, Any]) -> dict[str, Any]:
    """A state without metrics, which depend on what is evaluated and go to the manifest."""
    return {name: value for name, value in values.items() if name != "metrics"}


def begin_checkpoint(run: StageRun, step: int) -> Path:
    """Create the temporary folder, next to its final place, in which a checkpoint is written.

    Raises:
        StageFailedError: the disk is full or not writable.
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
    """Add companions and manifest to a folder with the tensors, and publish it.

    Args:
        values: Step, tokens and metrics of the state.
        hashed: Digests of files that were hashed while they were written.

    Raises:
        StageFailedError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    final = run.checkpoint_dir(values["step"])
    with cleaned_up(temporary, final):
        written = _fill(temporary, values, companions, hashed)
        put_in_place(temporary, final)
    return written.model_copy(update={"path": final})


@contextmanager
def cleaned_up(temporary: Path, final: Path) -> Iterator[None]:
    """On a disk error, remove the temporary folder and explain.

    Raises:
        StageFailedError: the disk is full or not writable; for shards, in any process.
    """
    try:
        yield
    except (OSError, RuntimeError, CheckpointException) as error:
        cause = error if isinstance(error, OSError) else find_disk_error(error, final.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        if cause is None:
            raise
        step = int(final.name.removeprefix("step-"))
        is_refused = cause.errno in REFUSED
        remedy = "make the folder writable" if is_refused else disk_remedy(cause, final.parent)
        raise StageFailedError(
            f"the checkpoint of step {step:,} cannot be written in {final.parent}: "
            f"{cause.strerror}; earlier checkpoints are intact: {remedy} and run again"
        ) from error


def retain(run: StageRun, retention: Retention) -> list[TrainingCheckpoint]:
    """Delete and return all checkpoints that the policy does not keep.

    It considers what is on disk, so it works across restarts.
    """
    saved = run.checkpoints()
    kept = retention.keeps_of(saved)
    deleted = [c for c in saved if c.step not in kept]
    for checkpoint in deleted:
        hidden = checkpoint.path.with_name(f".{checkpoint.path.name}.deleted.tmp")
        checkpoint.path.replace(hidden)
        remove_tree(hidden)
    return deleted


def _fill(
    folder: Path,
    values: dict[str, Any],
    companions: Companions,
    hashed: tuple[FileDigest, ...],
) -> TrainingCheckpoint:
    save_config(Config(**companions.shared.model_config_fields), folder)
    copy_config_files(companions.tokenizer_dir, folder)
    recipe = yaml.safe_dump(companions.recipe, sort_keys=False, allow_unicode=True)
    (folder / "hyperparameters.yaml").write_text(recipe, encoding="utf-8")
    files = hash_tree(folder, known=hashed)
    for file in files:
        if companions.tokenizer_sha256.get(file.path, file.sha256) != file.sha256:
            raise IntegrityError(
                f"{companions.tokenizer_dir / file.path} was modified during training; refusing to "
                "write a checkpoint with it; rerun the stage that made the dataset (--rerun)"
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
    checkpoint = companions.shared.model_copy(update=own)
    document = manifest_of(checkpoint)
    fsync_tree(folder)
    write_json(folder / MANIFEST, document)
    return checkpoint.model_copy(update={"seal": document["seal"]})


def save_hashed(values: dict[str, Any], path: Path) -> FileDigest:
    """`torch.save` that hashes what it writes and flushes it to disk."""
    with path.open("wb") as file, HashingWriter(file) as writer:
        torch.save(values, writer)  # type: ignore[arg-type]  # only `write` is called
        file.flush()
        os.fsync(file.fileno())
    return FileDigest(path=path.name, size_bytes=writer.size_bytes, sha256=writer.sha256)


class HashingWriter:
    """Writes to a file, a target for `torch.save`: hashes the bytes and starts to flush them.

    A context manager: leaving it stops the hashing thread. The file stays open.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Write to `file` from its start."""
        self._file = file
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self.size_bytes = 0

    def __enter__(self) -> "HashingWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def write(self, data: bytes | memoryview) -> int:
        """Write `data`; return its length in bytes."""
        size = memoryview(data).nbytes
        if size < PARALLEL_BYTES:
            self._hash.update(data)
            self._file.write(data)
        else:
            self._write_while_hashing(memoryview(data).cast("B"))
        self.size_bytes += size
        return size

    def _write_while_hashing(self, data: memoryview) -> None:
        hashing = self._thread.submit(self._hash.update, data)
        try:
            for start in range(0, data.nbytes, FLUSHED_BYTES):
                part = data[start : start + FLUSHED_BYTES]
                self._file.write(part)
                _start_flushing(self._file, self.size_bytes + start, part.nbytes)
        finally:
            hashing.result()  # torch frees `data` when this returns

    def flush(self) -> None:
        """Flush the buffer to the operating system."""
        self._file.flush()

    @property
    def sha256(self) -> str:
        """The hexadecimal hash of everything written so far."""
        return self._hash.hexdigest()


def _start_flushing(file: BinaryIO, start: int, num_bytes: int) -> None:
    """Start writing the last bytes to disk while the next are hashed.

    On POSIX_FADV_DONTNEED, Linux starts to write dirty pages, and keeps them cached.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # only a hint; pipes do not support it
            os.posix_fadvise(file.fileno(), start, num_bytes, os.POSIX_FADV_DONTNEED)
