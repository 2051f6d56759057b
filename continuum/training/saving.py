"""When and how a run saves: snapshot, write in the background, apply retention."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Fabric

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
from continuum.training.shards import ShardSnapshot, snapshot_shards, write_shards, writers_group
from continuum.training.snapshot import HostBuffer
from continuum.training.state import TrainingState, is_sharded
from continuum.training.weights import PLAIN_FILE

MAX_PATIENCE_S = 60.0
"""How long the other processes wait for rank 0 to write before it reports to them."""


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
        self._fabric = fabric
        self._ctx = ctx
        self._companions = companions
        self._is_sharded = recipe.runtime.checkpoint.format == "sharded"
        self._retention = retention
        self._writer = BackgroundWriter()
        self._shard_writer = BackgroundWriter()
        """Its writes are collective, so all processes wait for each other anyway."""
        self._buffer = HostBuffer(ctx.warn) if fabric.device.type == "cuda" else None
        self._patience_s = min(MAX_PATIENCE_S, recipe.runtime.collective_timeout / 4)
        # Collective: all processes of an fsdp run create it here.
        has_shards = self._is_sharded and fabric.world_size > 1
        self._group = writers_group() if has_shards else None

    def save(self, state: TrainingState) -> None:
        """Save this step; returns as soon as training may change the state again.

        Raises:
            StageFailedError: this write or the previous one failed.
        """
        if self._is_sharded and is_sharded(state.model):
            self._save_sharded(state)
            return
        self.wait_together()  # first, so that there is only one snapshot in memory
        is_writer = self._fabric.is_global_zero
        snapshot = state.snapshot(is_writer=is_writer, buffer=self._buffer if is_writer else None)
        if is_writer:
            self._writer.submit(partial(self._write, snapshot))

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            StageFailedError: the last write failed.
        """
        self._writer.wait()
        self._shard_writer.wait()

    def wait_together(self) -> None:
        """Wait in every process until rank 0 has everything on disk; collective.

        Writing may take longer than the timeout of a collective operation, so rank 0 reports to
        the other processes while it writes.

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
        self._shard_writer.wait()
        run, fabric = self._ctx.run, self._fabric
        name = begin_checkpoint(run, state.step).name if fabric.is_global_zero else ""
        folder = run.checkpoints_dir / fabric.broadcast(name)
        snapshot = snapshot_shards(state, self._buffer)
        self._shard_writer.submit(partial(self._write_shards, folder, snapshot))

    def _write_shards(self, folder: Path, snapshot: ShardSnapshot) -> None:
        """Write this process's part; rank 0 publishes the folder when all are written."""
        run, values = self._ctx.run, snapshot.values
        assert self._group is not None, "a sharded model has several processes"
        with cleaned_up(folder, run.checkpoint_dir(values["step"])):
            shards = write_shards(folder, snapshot, self._group)
            if not self._fabric.is_global_zero:
                return
            written = save_hashed(without_metrics(values), folder / PLAIN_FILE)
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
    """Runs one write at a time in a thread; the next call raises what it raised."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, write: Callable[[], None]) -> None:
        """Start to write; waits for the previous write first, so that one at most is in flight."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(write,), name="checkpoint-writer")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is in flight; raises what the last write raised."""
        self.wait_for(None)

    def wait_for(self, timeout_s: float | None) -> bool:
        """Wait at most this long; return whether nothing is in flight.

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

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error
