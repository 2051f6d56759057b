"""Resume a run from its newest intact checkpoint, and say whether the result is bit-exact."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning import Fabric

from continuum.errors import IntegrityError
from continuum.experiment.stage import StageContext
from continuum.runs.artifacts import SHARDS_DIR, WEIGHTS_FILE, TrainingCheckpoint
from continuum.runs.events import Recovered
from continuum.runs.files import FileDigest, find_damage, remove_tree
from continuum.runs.folder import StageRun
from continuum.runs.records import read_artifact
from continuum.training.numerics import changes
from continuum.training.resolved import Resolved
from continuum.training.shards import load_shards
from continuum.training.state import TrainingState, is_sharded
from continuum.training.weights import read_sharded

CheckFiles = Callable[[Path, tuple[FileDigest, ...]], list[str]]
"""Compares a checkpoint's folder with the files that it should hold; returns the differences."""
IN_EVERY_MANIFEST = ("world_size", "micro_batch_size", "strategy")
"""Also in those of earlier releases, which have no `resolved`."""


def restore(fabric: Fabric, state: TrainingState, folder: Path) -> None:
    """Load the state in a checkpoint folder, whatever number of processes wrote it."""
    if (folder / SHARDS_DIR).is_dir() and is_sharded(state.model):
        load_shards(folder, state, rank=fabric.global_rank)
    else:
        state.restore(read_checkpoint(folder), rank=fabric.global_rank)


def inexactness(
    manifest: Mapping[str, Any], resolved: Resolved, environment: Mapping[str, Any]
) -> Iterator[str]:
    """Why a resumed run may not be bit-identical to an uninterrupted one."""
    now = resolved.as_record()
    before = manifest["resolved"] or {key: manifest[key] for key in IN_EVERY_MANIFEST}
    for key, value in before.items():
        if key in now and now[key] != value:
            yield f"{key} was {value} and is {now[key]}"
    yield from changes(manifest["numerics"], environment)
    if resolved.accelerator == "cuda" and not resolved.deterministic:
        yield "GPU runs are not bit-reproducible without runtime.deterministic"


def recover(
    fabric: Fabric,
    ctx: StageContext,
    state: TrainingState,
    resolved: Resolved,
    environment: Mapping[str, Any],
) -> bool:
    """Resume from the run's newest intact checkpoint; return whether there is one.

    Every byte is verified first, and rank 0 decides. Corrupt checkpoints that are skipped, and
    whether the continuation is exact, are reported and recorded.
    """
    found: tuple[str, dict[str, Any]] | None = None
    newest, skipped = newest_verified(fabric, ctx.run)
    if fabric.is_global_zero:
        for name, message in skipped.items():
            ctx.warn(message)
            ctx.run.log_attempt("checkpoint_passed_over", message=message)
            put_aside(ctx.run, name)
        if newest is not None:
            found = (newest.path.name, newest.model_dump(mode="json", exclude={"path"}))
    found = fabric.broadcast(found)
    if found is None:
        return False
    name, manifest = found
    restore(fabric, state, ctx.run.checkpoints_dir / name)
    state.metrics = dict(manifest["metrics"])
    if fabric.is_global_zero:
        why = list(inexactness(manifest, resolved, environment))
        ctx.report(Recovered(state.step, exact=not why))
        ctx.run.log_attempt("recovered", step=state.step, exact=not why, why=why)
    return True


def newest_verified(
    fabric: Fabric, run: StageRun
) -> tuple[TrainingCheckpoint | None, dict[str, str]]:
    """`newest_intact` on rank 0; the other ranks help to read, and get nothing. Collective.

    One node takes minutes to read a large checkpoint; all of them read as fast as the file system
    allows.
    """
    if fabric.world_size == 1:
        return newest_intact(run)

    def read_share(folder: Path, files: tuple[FileDigest, ...]) -> list[str]:
        by_size = sorted(files, key=lambda file: file.size_bytes, reverse=True)
        own = read_all(folder, tuple(by_size[fabric.global_rank :: fabric.world_size]))
        damage: list[list[str]] = [[]] * fabric.world_size
        dist.all_gather_object(damage, own)
        return [line for of_rank in damage for line in of_rank]

    if fabric.is_global_zero:
        found = newest_intact(run, lambda *work: read_share(*fabric.broadcast(work)))
        fabric.broadcast(None)
        return found
    while (work := fabric.broadcast(None)) is not None:
        read_share(*work)
    return None, {}


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The snapshot in a checkpoint folder; the tensors of a single file are memory-mapped."""
    if (folder / SHARDS_DIR).is_dir():
        return read_sharded(folder)
    loaded: dict[str, Any] = torch.load(
        folder / WEIGHTS_FILE, mmap=True, map_location="cpu", weights_only=True
    )
    return loaded


def read_all(folder: Path, files: tuple[FileDigest, ...]) -> list[str]:
    """Read every byte; return what differs from the record."""
    return find_damage(folder, files, read=True)


def newest_intact(
    run: StageRun, check: CheckFiles = read_all
) -> tuple[TrainingCheckpoint | None, dict[str, str]]:
    """The newest checkpoint that matches its record, and what is wrong with newer ones, by name."""
    skipped: dict[str, str] = {}
    for name in reversed(run.checkpoint_names()):
        folder = run.checkpoints_dir / name
        try:
            found = read_artifact(folder)
            damage = check(folder, found.files)
        except IntegrityError as error:
            damage = [str(error).replace(f"{folder}/", "")]
        if not damage:
            assert isinstance(found, TrainingCheckpoint)
            return found, skipped
        skipped[name] = f"{name} is corrupt; skipped: {damage[0]}"
    return None, skipped


def put_aside(run: StageRun, name: str) -> None:
    """Hide a corrupt checkpoint, from retention too; `discard_damaged` removes it at the end."""
    aside = run.checkpoints_dir / f".{name}.damaged"
    remove_tree(aside)
    (run.checkpoints_dir / name).replace(aside)


def discard_damaged(run: StageRun) -> None:
    """Remove the checkpoints that `put_aside` hid."""
    for damaged in run.checkpoints_dir.glob(".*.damaged"):
        remove_tree(damaged)
