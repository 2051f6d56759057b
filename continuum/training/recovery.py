"""A run that goes on from its newest whole checkpoint, and why that need not be exact."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning import Fabric

from continuum.experiment.stage import StageContext
from continuum.runs.artifacts import TrainingCheckpoint
from continuum.runs.events import Recovered
from continuum.runs.files import FileDigest
from continuum.runs.folder import StageRun
from continuum.training.checkpoint import newest_whole, put_aside, read_all, read_checkpoint
from continuum.training.numerics import changes
from continuum.training.resolved import Resolved
from continuum.training.shards import load_shards
from continuum.training.state import TrainingState, is_sharded
from continuum.training.weights import SHARDS_DIR

Work = tuple[Path, tuple[FileDigest, ...]]
"""A checkpoint's folder and the files that it should hold."""
TOLD_BY_EVERY_MANIFEST = ("world_size", "micro_batch_size", "strategy")
"""Also by one of an earlier release, which has no `resolved`."""


def restore(fabric: Fabric, state: TrainingState, folder: Path) -> None:
    """Become the state in a checkpoint folder, whatever number of processes wrote it."""
    if (folder / SHARDS_DIR).is_dir() and is_sharded(state.model):
        load_shards(folder, state, rank=fabric.global_rank)
    else:
        state.restore(read_checkpoint(folder), rank=fabric.global_rank)


def inexactness(
    manifest: Mapping[str, Any], resolved: Resolved, found: Mapping[str, Any]
) -> Iterator[str]:
    """Why a run that goes on from a checkpoint need not come to the same bytes as one unbroken."""
    now = resolved.as_record()
    before = manifest["resolved"] or {key: manifest[key] for key in TOLD_BY_EVERY_MANIFEST}
    for key, value in before.items():
        if key in now and now[key] != value:
            yield f"{key} was {value} and is {now[key]}"
    yield from changes(manifest["numerics"], found)
    if resolved.accelerator == "cuda" and not resolved.deterministic:
        yield "a GPU promises no equal bytes without runtime.deterministic"


def recover(
    fabric: Fabric,
    ctx: StageContext,
    state: TrainingState,
    resolved: Resolved,
    found_here: Mapping[str, Any],
) -> bool:
    """Go on from the run's newest whole checkpoint, if it has one.

    Every byte is read first, and rank 0 decides; what was passed over, and whether the
    continuation is exact, is told and recorded.
    """
    found: tuple[str, dict[str, Any]] | None = None
    newest, passed_over = newest_verified(fabric, ctx.run)
    if fabric.is_global_zero:
        for name, message in passed_over.items():
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
        why = list(inexactness(manifest, resolved, found_here))
        ctx.report(Recovered(state.step, exact=not why))
        ctx.run.log_attempt("recovered", step=state.step, exact=not why, why=why)
    return True


def newest_verified(
    fabric: Fabric, run: StageRun
) -> tuple[TrainingCheckpoint | None, dict[str, str]]:
    """As `newest_whole`, on rank 0; the others help it to read, and get nothing.

    A large checkpoint takes one node minutes to read; all of them read as fast as the file system
    gives. Collective: every process of the run must call it.
    """
    if fabric.world_size == 1:
        return newest_whole(run)
    if fabric.is_global_zero:
        found = newest_whole(run, lambda *work: _read_together(fabric, work))
        fabric.broadcast(None)
        return found
    while (work := fabric.broadcast(None)) is not None:
        _read_share(fabric, work)
    return None, {}


def _read_together(fabric: Fabric, work: Work) -> list[str]:
    """Rank 0: hand the files out, and gather what is wrong with them."""
    return _read_share(fabric, fabric.broadcast(work))


def _read_share(fabric: Fabric, work: Work) -> list[str]:
    """Read every n-th file, the largest first, and tell; what all processes have found."""
    folder, files = work
    by_size = sorted(files, key=lambda file: file.size_bytes, reverse=True)
    own = read_all(folder, tuple(by_size[fabric.global_rank :: fabric.world_size]))
    found: list[list[str]] = [[]] * fabric.world_size
    dist.all_gather_object(found, own)
    return [damage for of_rank in found for damage in of_rank]
