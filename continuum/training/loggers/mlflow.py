"""MLflow: one run over restarts, found again by a tag; in the run folder or where the user says.

Our own store (files in `loggers/mlflow`) is made anew from the rows at each start, as CSV's and
TensorBoard's files are. In a store of the user's (`MLFLOW_TRACKING_URI`), to which MLflow can only
append, the run is looked for by the tag `continuum.id`, and steps that are there are not sent
again. With an exact recovery they are the same; else the ones there are those of the interrupted
attempt.

What the stage learns from is in the run's parameters, which MLflow never changes; how the work is
done (`runtime`) is in its tags, as of the last attempt.
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
    Outcome,
    Row,
    Subject,
    environment,
    is_evaluation,
    numbers,
    time_of,
)

ID_TAG = "continuum.id"
MAX_METRICS = 1000
"""MLflow's limit for one request."""
MARKS = {False: "lr", True: "val_loss"}
"""A metric of every row of a training step, of an evaluation."""
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MlflowSeries:
    """A run of MLflow with the subject's id as a tag."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._folder = subject.folder / "mlflow"
        theirs = os.environ.get("MLFLOW_TRACKING_URI")
        self._is_ours = not theirs
        self._uri = theirs or self._folder.resolve().as_uri()
        self._sent_steps: dict[bool, int] = {}
        """The last step there, of training and of evaluations."""

    def begin(self, rows: list[Row]) -> None:
        for meta in self._folder.glob("*/*/meta.yaml") if self._is_ours else ():
            shutil.rmtree(meta.parent)  # a run; MLflow remembers that it made the store
        own = {"MLFLOW_TRACKING_URI": self._uri, "MLFLOW_ALLOW_FILE_STORE": "true"}
        with environment(**own):  # Lightning's logger sets the first for good.
            self._open()
        self._sent_steps = {kind: self._last_step(mark) for kind, mark in MARKS.items()}
        self._send(rows)

    def write(self, row: Row) -> None:
        self._send([row])

    def end(self, outcome: Outcome) -> None:
        self._logger.finalize(_STATUS[outcome])

    def _open(self) -> None:
        """Find the run, or make it."""
        group = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self._subject.group
        self._client = MlflowClient(self._uri)
        known = self._find_run(group)
        self._logger = MLFlowLogger(
            experiment_name=group,
            run_name=self._subject.run,
            tracking_uri=self._uri,
            tags={ID_TAG: self._subject.id},
            run_id=known,
        )
        config = dict(self._subject.config)
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
        wanted = f"tags.`{ID_TAG}` = '{self._subject.id}'"
        found = self._client.search_runs([experiment.experiment_id], wanted, max_results=1)
        return found[0].info.run_id if found else None

    def _last_step(self, mark: str) -> int:
        history: Any = self._client.get_metric_history(self._run_id, mark)
        return max((metric.step for metric in history), default=-1)

    def _send(self, rows: Iterable[Row]) -> None:
        metrics = self._metrics(rows)
        while batch := list(islice(metrics, MAX_METRICS)):
            self._client.log_batch(self._run_id, metrics=batch)

    def _metrics(self, rows: Iterable[Row]) -> Iterator[Metric]:
        for row in rows:
            if row["step"] > self._sent_steps[is_evaluation(row)]:
                milliseconds = int(time_of(row) * 1000)
                for name, value in numbers(row).items():
                    # In a store of files `val_loss` cannot be a file and a folder as well.
                    yield Metric(name.replace("/", "."), value, milliseconds, row["step"])
