"""Training checkpoints: written whole, found whole, deleted whole.

A checkpoint is a folder in LitGPT's layout plus `manifest.json`. It is written beside its place
(same file system, whatever `$TMPDIR` is), hashed while written, flushed, given its manifest last,
and renamed. So a folder named `step-N` with a manifest was complete once; before it is loaded,
every byte is read again and compared.
"""

import errno
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError

from continuum.errors import StageFailedError
from continuum.files import (
    FileDigest,
    HashingWriter,
    find_damage,
    fsync_folder,
    fsync_tree,
    hash_tree,
    tree_digest,
    write_json,
)
from continuum.records import CheckpointManifest
from continuum.runs import SavedCheckpoint, StageRun
from continuum.training.litgpt import WEIGHTS_FILE, Config, copy_config_files, save_config


@dataclass(frozen=True)
class Companions:
    """What lies beside the tensors in every checkpoint of a run."""

    tokenizer_dir: Path
    model_config_fields: dict[str, Any]
    recipe: dict[str, Any]
    """Written as `hyperparameters.yaml`, LitGPT's name for it."""
    vocabulary_digest: str | None
    parent: str | None
    world_size: int


def write_checkpoint(
    run: StageRun, snapshot: dict[str, Any], companions: Companions
) -> SavedCheckpoint:
    """Publish a snapshot as `checkpoints/step-N`, or leave nothing.

    Raises:
        StageFailedError: the disk is full or refuses; earlier checkpoints are untouched.
    """
    final = run.checkpoint_dir(snapshot["step"])
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        manifest = _fill(temporary, snapshot, companions)
        _publish(temporary, final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space" if is_full else "make the folder writable"
        raise StageFailedError(
            f"the checkpoint of step {snapshot['step']:,} cannot be written in {final.parent}: "
            f"{error.strerror}; earlier checkpoints are whole: {remedy} and run again"
        ) from error
    return SavedCheckpoint(final, manifest)


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The snapshot in a checkpoint folder, its tensors memory-mapped on the CPU."""
    loaded: dict[str, Any] = torch.load(
        folder / WEIGHTS_FILE, mmap=True, map_location="cpu", weights_only=True
    )
    return loaded


def newest_whole(run: StageRun) -> tuple[SavedCheckpoint | None, list[str]]:
    """The newest checkpoint whose bytes are as recorded, and what was wrong with newer ones."""
    passed_over: list[str] = []
    for folder in sorted(run.checkpoints_dir.glob("step-*"), reverse=True):
        found = _examine(folder)
        if isinstance(found, SavedCheckpoint):
            return found, passed_over
        passed_over.append(f"{folder.name} is damaged and was passed over: {found}")
    return None, passed_over


def retain(run: StageRun, *, keep_last: int, keep_steps: Iterable[int]) -> list[SavedCheckpoint]:
    """Delete all but the newest `keep_last` checkpoints and those at `keep_steps`.

    Decided from what is on disk, so it holds over restarts; returns what was deleted.
    """
    saved = run.checkpoints()
    kept = set(keep_steps) | {c.manifest.step for c in saved[-keep_last:]}
    deleted = [c for c in saved if c.manifest.step not in kept]
    for checkpoint in deleted:
        doomed = checkpoint.path.with_name(f".{checkpoint.path.name}.deleted.tmp")
        checkpoint.path.replace(doomed)
        shutil.rmtree(doomed)
    return deleted


def _examine(folder: Path) -> SavedCheckpoint | str:
    """The checkpoint in `folder` after reading every byte of it, or what is wrong with it."""
    path = folder / "manifest.json"
    try:
        manifest = CheckpointManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return "manifest.json is missing"
    except (OSError, ValidationError) as error:
        return f"manifest.json cannot be read ({type(error).__name__})"
    damage = find_damage(folder, manifest.files, read=True)
    if damage:
        return damage[0]
    snapshot = read_checkpoint(folder)
    tokens_total = snapshot["tokens_before"] + snapshot["tokens_seen"]
    told = (manifest.digest, manifest.step, manifest.tokens_seen, manifest.tokens_total)
    held = (tree_digest(manifest.files), snapshot["step"], snapshot["tokens_seen"], tokens_total)
    if told != held or manifest.metrics != snapshot["metrics"]:
        return "manifest.json tells of another state than the one that is there"
    return SavedCheckpoint(folder, manifest)


def _fill(folder: Path, snapshot: dict[str, Any], companions: Companions) -> CheckpointManifest:
    save_config(Config(**companions.model_config_fields), folder)
    copy_config_files(companions.tokenizer_dir, folder)
    recipe = yaml.safe_dump(companions.recipe, sort_keys=False, allow_unicode=True)
    (folder / "hyperparameters.yaml").write_text(recipe, encoding="utf-8")
    small_files = hash_tree(folder)
    files = tuple(sorted((*small_files, _save(folder, snapshot)), key=lambda file: file.path))
    manifest = CheckpointManifest(
        step=snapshot["step"],
        tokens_seen=snapshot["tokens_seen"],
        tokens_total=snapshot["tokens_before"] + snapshot["tokens_seen"],
        world_size=companions.world_size,
        files=files,
        digest=tree_digest(files),
        metrics=snapshot["metrics"],
        vocabulary_digest=companions.vocabulary_digest,
        model_config_fields=companions.model_config_fields,
        parent=companions.parent,
    )
    fsync_tree(folder)
    write_json(folder / "manifest.json", manifest.model_dump(mode="json"))
    return manifest


def _save(folder: Path, snapshot: dict[str, Any]) -> FileDigest:
    with (folder / WEIGHTS_FILE).open("wb") as file:
        writer = HashingWriter(file)
        try:
            torch.save(snapshot, writer)  # type: ignore[arg-type]  # only `write` is called
        except RuntimeError as error:
            # torch reports a failed write of its zip archive as RuntimeError, the cause inside.
            raise _cause_of(error) from error
        file.flush()
        os.fsync(file.fileno())
    return FileDigest(path=WEIGHTS_FILE, size_bytes=writer.size_bytes, sha256=writer.sha256)


def _cause_of(error: BaseException) -> BaseException:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


def _publish(temporary: Path, final: Path) -> None:
    """Rename into place; a checkpoint that recovery found damaged gives way."""
    if final.exists():
        replaced = final.with_name(f".{final.name}.replaced.tmp")
        shutil.rmtree(replaced, ignore_errors=True)
        final.replace(replaced)
        temporary.replace(final)
        shutil.rmtree(replaced)
    else:
        temporary.replace(final)
    fsync_folder(final.parent)
