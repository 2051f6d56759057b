"""MLflow: one run over restarts, found by a tag; in the run folder or in the user's store.

The store in the run folder (`loggers/mlflow`) is rebuilt from the rows at each start, like the
files of CSV and TensorBoard. It is MLflow's file store, not SQLite: the skinny client has no
SQLAlchemy, creating the database takes 13 s against 0.05 s, and each row 35 ms against 2.

To a user's store (`MLFLOW_TRACKING_URI`) MLflow can only append, so the run is found by the tag
`continuum.id`, and steps it already has are not sent again. After an exact recovery they are
identical; otherwise the store keeps those of the interrupted attempt.

What decides the result of the stage is in the run's parameters, which MLflow never changes; how the
work is done (`runtime`) is in its tags, from the last attempt.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from lightning.pytorch.loggers.mlflow import MLFlowLogger
from mlflow.entities import Metric, RunTag
from mlflow.tracking import MlflowClient

from continuum.training.loggers.series import (
    LoggedRun,
    Outcome,
    Row,
    environment,
    is_evaluation,
    numbers,
    time_of,
)

ID_TAG = "continuum.id"
MAX_METRICS = 1000
"""MLflow's limit per request."""
ALWAYS_LOGGED = {False: "lr", True: "val_loss"}
"""A metric in every row of a training step (False) and of an evaluation (True)."""
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MlflowSeries:
    """A run of MLflow with the logged's id as a tag."""

    def __init__(self, logged: LoggedRun) -> None:
        self._logged = logged
        self._folder = logged.folder / "mlflow"
        users = os.environ.get("MLFLOW_TRACKING_URI")
        self._is_ours = not users
        self._uri = users or self._folder.resolve().as_uri()
        self._sent_steps: dict[bool, int] = {}
        """The last step in the store, of training (False) and of evaluations (True)."""

    def begin(self, rows: list[Row]) -> None:
        for meta in self._folder.glob("*/*/meta.yaml") if self._is_ours else ():
            shutil.rmtree(meta.parent)  # only the run: MLflow caches that the store exists
        own = {"MLFLOW_TRACKING_URI": self._uri, "MLFLOW_ALLOW_FILE_STORE": "true"}
        with environment(**own):  # Lightning's logger sets the first permanently
            self._open()
        self._sent_steps = {kind: self._last_step(name) for kind, name in ALWAYS_LOGGED.items()}
        self._send(rows)

    def write(self, row: Row) -> None:
        self._send([row])

    def end(self, outcome: Outcome) -> None:
        self._logger.finalize(_STATUS[outcome])

    def _open(self) -> None:
        """Find or create the run."""
        group = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self._logged.group
        self._client = MlflowClient(self._uri)
        known = self._find_run(group)
        self._logger = MLFlowLogger(
            experiment_name=group,
            run_name=self._logged.run,
            tracking_uri=self._uri,
            tags={ID_TAG: self._logged.id},
            run_id=known,
        )
        config = dict(self._logged.config)
        runtime = config.pop("runtime", {})
        run_id = self._logger.run_id
        assert run_id is not None
        self._run_id = run_id
        if known is None:
            self._logger.log_hyperparams(config)
        else:
            self._client.update_run(run_id, status="RUNNING")
        tags = [RunTag(f"runtime.{name}", str(value)) for name, value in runtime.items()]
        self._client.log_batch(run_id, tags=tags)

    def _find_run(self, group: str) -> str | None:
        experiment = self._client.get_experiment_by_name(group)
        if experiment is None:
            return None
        wanted = f"tags.`{ID_TAG}` = '{self._logged.id}'"
        found = self._client.search_runs([experiment.experiment_id], wanted, max_results=1)
        return found[0].info.run_id if found else None

    def _last_step(self, metric: str) -> int:
        history: Any = self._client.get_metric_history(self._run_id, metric)
        return max((point.step for point in history), default=-1)

    def _send(self, rows: Iterable[Row]) -> None:
        metrics = self._metrics(rows)
        while batch := list(islice(metrics, MAX_METRICS)):
            self._client.log_batch(self._run_id, metrics=batch)

    def _metrics(self, rows: Iterable[Row]) -> Iterator[Metric]:
        for row in rows:
            if row["step"] > self._sent_steps[is_evaluation(row)]:
                milliseconds = int(time_of(row) * 1000)
                for name, value in numbers(row).items():
                    # In a file store `val_loss` cannot be both a file and a folder.
                    yield Metric(name.replace("/", "."), value, milliseconds, row["step"])
