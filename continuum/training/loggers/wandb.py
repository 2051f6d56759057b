"""Weights & Biases: one run over restarts, offline unless WANDB_MODE says otherwise.

Offline. W&B cannot resume an offline run: a second attempt with the same id makes a second file,
and of two files with one id `wandb sync` lets the later replace the earlier (wandb#3841, #2858; its
`--append` was for files with disjoint steps, and is gone). What a killed process had not written
yet is lost as well. So the file is made anew from the rows at each start, and its forerunner
removed: there is always one folder, `loggers/wandb/wandb/offline-run-*`, that holds the whole run
with each step once. By the same rule `wandb sync` of it at a later time replaces what an earlier
one uploaded. Rows have the time (`_timestamp`) at which they were taken; W&B's readings of the
machine, and its own running time, are those of the last attempt.

Online. The server keeps what it was sent, so rows up to the last one it has are not sent again when
they are computed again. With an exact recovery they are the same; else the ones there are those of
the interrupted attempt. An evaluation at the very step of the interruption may be there twice.
"""

import os
import shutil
from typing import Any

import wandb
from lightning.pytorch.loggers.wandb import WandbLogger

from continuum.training.loggers.series import (
    Outcome,
    Row,
    Subject,
    environment,
    is_evaluation,
    numbers,
    time_of,
)

STEP = "trainer/global_step"
"""Lightning's name of the step in W&B."""


class WandbSeries:
    """A run of W&B whose id is the subject's."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._folder = subject.folder / "wandb"
        self._mode = os.environ.get("WANDB_MODE") or "offline"
        self._is_offline = self._mode in ("offline", "dryrun")
        self._run: wandb.Run | None = None
        self._sent_step = -1

    def begin(self, rows: list[Row]) -> None:
        if self._run is not None:
            self._run.finish(exit_code=1)
            self._run = None
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._is_offline:
            for earlier in self._folder.glob(f"wandb/offline-run-*-{self._subject.id}"):
                shutil.rmtree(earlier)
        self._run = self._init()
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)
        self._logger = WandbLogger(experiment=self._run)
        self._logger.log_hyperparams(dict(self._subject.config))
        self._sent_step = int(self._known().get(STEP, -1))
        for row in rows:
            self.write(row)

    def write(self, row: Row) -> None:
        if not self._is_there(row):
            timed = {**numbers(row), "_timestamp": time_of(row)}
            self._logger.log_metrics(timed, step=row["step"])

    def end(self, outcome: Outcome) -> None:
        assert self._run is not None
        if outcome == "stopped":
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if outcome == "finished" else 1)
        self._run = None

    def _init(self) -> "wandb.Run":
        own = {"WANDB_CACHE_DIR": str(self._folder / "cache")}
        if self._is_offline:
            own["WANDB_ERROR_REPORTING"] = "false"
        with environment(**own):
            return wandb.init(
                id=self._subject.id,
                name=self._subject.run,
                project=os.environ.get("WANDB_PROJECT") or self._subject.group,
                dir=self._folder,
                mode=self._mode,  # type: ignore[arg-type]  # what the user says, W&B checks
                resume=None if self._is_offline else "allow",
                reinit="create_new",
                settings=wandb.Settings(console="off", silent=True, save_code=False),
            )

    def _is_there(self, row: Row) -> bool:
        """Whether the server had it when this attempt began."""
        if row["step"] != self._sent_step or not is_evaluation(row):
            return bool(row["step"] <= self._sent_step)
        known = self._known()
        return all(known.get(name) == value for name, value in numbers(row).items())

    def _known(self) -> dict[str, Any]:
        """The newest value of each metric, those that the server had when the run was opened."""
        assert self._run is not None
        return dict(self._run.summary)
