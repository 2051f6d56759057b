"""When and how a run saves: snapshot, background write, retention, and the word about it."""

import threading
from collections.abc import Callable
from typing import Any

from lightning import Fabric

from continuum.experiment.fields import VALIDATION_LOSS
from continuum.experiment.recipe import Recipe
from continuum.experiment.stage import StageContext
from continuum.runs.events import Saved
from continuum.runs.files import hash_tree
from continuum.runs.retention import Retention
from continuum.training.checkpoint import (
    Companions,
    begin_checkpoint,
    cleaned_up,
    finish_checkpoint,
    retain,
    save_hashed,
    without_metrics,
    write_checkpoint,
)
from continuum.training.host_buffer import HostBuffer
from continuum.training.shards import snapshot_shards, write_shards, writers_group
from continuum.training.state import TrainingState, is_sharded
from continuum.training.weights import PLAIN_FILE, SHARDS_DIR

MAX_PATIENCE_S = 60.0
"""How long the other processes wait for rank 0's writing before they hear from it."""


def tracked_metrics(ctx: StageContext, recipe: Recipe) -> tuple[str, ...]:
    """Validation losses whose best step is noted, and saved whatever else says when to save."""
    policy = recipe.runtime.checkpoint.keep_best
    kept = {policy} if policy and policy.partition("/")[0] == VALIDATION_LOSS else set()
    return tuple(sorted({*ctx.record.best_metrics, *kept}))


class Saver:
    """Saves the states of one run; every process calls it, rank 0 writes."""

    def __init__(
        self,
        fabric: Fabric,
        ctx: StageContext,
        recipe: Recipe,
        companions: Companions,
        retention: Retention,
    ) -> None:
        policy = recipe.runtime.checkpoint
        self._fabric = fabric
        self._ctx = ctx
        self._companions = companions
        self._is_sharded = policy.format == "sharded"
        self._retention = retention
        self._writer = BackgroundWriter(self._write)
        self._shard_writer = BackgroundWriter(self._write_shards)
        self._buffer = HostBuffer(ctx.warn) if fabric.device.type == "cuda" else None
        self._patience_s = min(MAX_PATIENCE_S, recipe.runtime.collective_timeout / 4)
        # All processes of an fsdp run make it here, together.
        has_shards = self._is_sharded and fabric.world_size > 1
        self._group = writers_group() if has_shards else None

    @property
    def pinned_bytes(self) -> int:
        """Page-locked host memory that is held for snapshots."""
        return self._buffer.num_bytes if self._buffer is not None and self._buffer.is_pinned else 0

    def save(self, state: TrainingState) -> None:
        """Save this step; returns as soon as training may change the state again.

        Raises:
            StageFailedError: this write, or the one before it, failed.
        """
        if self._is_sharded and is_sharded(state.model):
            self._save_sharded(state)
            return
        self.wait_together()  # First, so that no two snapshots are in memory.
        is_writer = self._fabric.is_global_zero
        snapshot = state.snapshot(is_writer=is_writer, buffer=self._buffer if is_writer else None)
        if self._fabric.is_global_zero:
            self._writer.submit(snapshot)

    def wait(self) -> None:
        """Return when everything is on disk.

        Raises:
            StageFailedError: the last write failed.
        """
        self._writer.wait()
        self._shard_writer.wait()

    def wait_together(self) -> None:
        """Return in every process when rank 0 has everything on disk; collective.

        Rank 0 may write for longer than a collective operation waits for it, so the others hear
        from it now and then.

        Raises:
            StageFailedError: in rank 0, the last write failed.
        """
        is_idle = self._fabric.world_size == 1
        while not is_idle:
            is_idle = self._fabric.broadcast(self._writer.wait_for(self._patience_s))
        self.wait()

    def _write(self, snapshot: dict[str, Any]) -> None:
        write_checkpoint(self._ctx.run, snapshot, self._companions)
        self._published(snapshot["step"])

    def _save_sharded(self, state: TrainingState) -> None:
        """Each process copies its part and writes it in the background."""
        self._shard_writer.wait()
        run, fabric = self._ctx.run, self._fabric
        name = begin_checkpoint(run, state.step).name if fabric.is_global_zero else ""
        folder = run.checkpoints_dir / fabric.broadcast(name)
        self._shard_writer.submit(
            {"folder": folder, "snapshot": snapshot_shards(state, self._buffer)}
        )

    def _write_shards(self, part: dict[str, Any]) -> None:
        """Write this process's part; rank 0 publishes the folder when all are written."""
        folder, snapshot, run = part["folder"], part["snapshot"], self._ctx.run
        values = snapshot.values
        assert self._group is not None, "a sharded model has several processes"
        with cleaned_up(folder, run.checkpoint_dir(values["step"])):
            shards = write_shards(folder, snapshot, self._group)
            if not self._fabric.is_global_zero:
                return
            written = save_hashed(without_metrics(values), folder / PLAIN_FILE)
            assert (folder / SHARDS_DIR).is_dir()
            files = hash_tree(folder, (written, *shards))
        finish_checkpoint(run, folder, values, self._companions, files)
        self._published(values["step"])

    def _published(self, step: int) -> None:
        self._ctx.report(Saved(step))
        for deleted in retain(self._ctx.run, self._retention):
            self._ctx.run.log_attempt(
                "checkpoint_deleted", step=deleted.step, digest=deleted.digest
            )


class BackgroundWriter:
    """Writes one snapshot at a time in a thread; a failure is raised at the next call."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, snapshot: dict[str, Any]) -> None:
        """Begin to write; waits first for the one before, so that at most one is in flight."""
        self.wait()
        self._thread = threading.Thread(
            target=self._run, args=(snapshot,), name="checkpoint-writer"
        )
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is in flight; raises what the last write raised."""
        self.wait_for(None)

    def wait_for(self, timeout_s: float | None) -> bool:
        """Wait no longer than this; True when nothing is in flight.

        Raises what the last write raised.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

    def _run(self, snapshot: dict[str, Any]) -> None:
        try:
            self._write(snapshot)
        except BaseException as error:
            self._error = error
