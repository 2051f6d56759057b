"""Weights & Biases: one run over restarts, offline unless WANDB_MODE says otherwise.

Offline: W&B cannot resume an offline run. A second attempt with the same id creates a second file,
and of two files with one id `wandb sync` lets the later one replace the earlier (wandb#3841, #2858;
its `--append` was for files with disjoint steps, and was removed). What a killed process had not
written is lost too. So the file is rebuilt from the rows at each start and the previous one
removed: there is always one folder, `loggers/wandb/wandb/offline-run-*`, that holds the entire run
with each step once. By the same rule, a later `wandb sync` replaces an earlier upload. Rows have
the time (`_timestamp`) at which they were logged; W&B's system metrics, and its own runtime, are
those of the last attempt.

Online: the server keeps what it received, so rows up to its last step are not sent again when they
are recomputed. After an exact recovery they are identical; otherwise the server keeps those of the
interrupted attempt. An evaluation at the step of the interruption may appear twice.
"""

import os
import shutil
from typing import Any

import wandb
from lightning.pytorch.loggers.wandb import WandbLogger

from continuum.training.loggers.series import (
    LoggedRun,
    Outcome,
    Row,
    environment,
    is_evaluation,
    numbers,
    time_of,
)

STEP = "trainer/global_step"
"""Lightning's name of the step in W&B."""


class WandbSeries:
    """A run of W&B whose id is the logged's."""

    def __init__(self, logged: LoggedRun) -> None:
        self._logged = logged
        self._folder = logged.folder / "wandb"
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
            for earlier in self._folder.glob(f"wandb/offline-run-*-{self._logged.id}"):
                shutil.rmtree(earlier)
        self._run = self._init()
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)
        self._logger = WandbLogger(experiment=self._run)
        self._logger.log_hyperparams(dict(self._logged.config))
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
                id=self._logged.id,
                name=self._logged.run,
                project=os.environ.get("WANDB_PROJECT") or self._logged.group,
                dir=self._folder,
                mode=self._mode,  # type: ignore[arg-type]  # W&B validates the user's value
                resume=None if self._is_offline else "allow",
                reinit="create_new",
                settings=wandb.Settings(console="off", silent=True, save_code=False),
            )

    def _is_there(self, row: Row) -> bool:
        """Whether the server had it when this attempt started."""
        if row["step"] != self._sent_step or not is_evaluation(row):
            return bool(row["step"] <= self._sent_step)
        known = self._known()
        return all(known.get(name) == value for name, value in numbers(row).items())

    def _known(self) -> dict[str, Any]:
        """The latest value of each metric, including those of the server at the start."""
        assert self._run is not None
        return dict(self._run.summary)
