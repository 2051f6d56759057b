"""Verification before a recovery, by all processes of a run together: each reads its share.

A sharded checkpoint of a large model takes one node minutes to read; all of them read as fast as
the file system gives.
"""

from pathlib import Path

import torch.distributed as dist
from lightning import Fabric

from continuum.artifacts import TrainingCheckpoint
from continuum.files import FileDigest
from continuum.runs import StageRun
from continuum.training.checkpoint import newest_whole, read_all

Work = tuple[Path, tuple[FileDigest, ...]]
"""A checkpoint's folder and the files that it should hold."""


def newest_verified(
    fabric: Fabric, run: StageRun
) -> tuple[TrainingCheckpoint | None, dict[str, str]]:
    """As `newest_whole`, on rank 0; the others help it to read, and get nothing.

    Collective: every process of the run must call it.
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
