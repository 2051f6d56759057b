"""CSV and TensorBoard: files that are written anew from the rows whenever a run begins or goes on.

TensorBoard's own way (an event that tells readers to forget what came after a step) leaves the
forgotten points in the files; here each step is in them once, at the time it was taken.
"""

import shutil

from lightning.fabric.loggers.csv_logs import CSVLogger
from lightning.fabric.loggers.tensorboard import TensorBoardLogger

from continuum.runs.files import write_text
from continuum.training.loggers.series import Outcome, Row, Subject, as_yaml, numbers, time_of

FLUSH_S = 10
"""Seconds until a point shows in TensorBoard."""


class CsvSeries:
    """`csv/metrics.csv`, and the configuration in `csv/hparams.yaml`."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._folder = subject.folder / "csv"
        self._logger: CSVLogger | None = None

    def begin(self, rows: list[Row]) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._logger = CSVLogger(root_dir=self._subject.folder, name="csv", version="")
        for row in rows:
            self._logger.experiment.log_metrics(numbers(row), row["step"])
        self._logger.save()
        write_text(self._folder / "hparams.yaml", as_yaml(self._subject.config))

    def write(self, row: Row) -> None:
        assert self._logger is not None
        self._logger.experiment.log_metrics(numbers(row), row["step"])
        self._logger.save()

    def end(self, outcome: Outcome) -> None:
        assert self._logger is not None
        self._logger.finalize(outcome)


class TensorBoardSeries:
    """Event files in `tensorboard/`, the configuration as the text `config`."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._folder = subject.folder / "tensorboard"
        self._logger: TensorBoardLogger | None = None

    def begin(self, rows: list[Row]) -> None:
        if self._logger is not None:
            self._logger.finalize("failed")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._logger = TensorBoardLogger(
            root_dir=self._subject.folder, name="tensorboard", version="", flush_secs=FLUSH_S
        )
        # Markdown shows what is indented as it is written.
        text = "".join(f"    {line}\n" for line in as_yaml(self._subject.config).splitlines())
        self._logger.experiment.add_text("config", text)
        for row in rows:
            self.write(row)

    def write(self, row: Row) -> None:
        assert self._logger is not None
        for name, value in numbers(row).items():
            self._logger.experiment.add_scalar(name, value, row["step"], walltime=time_of(row))

    def end(self, outcome: Outcome) -> None:
        assert self._logger is not None
        self._logger.finalize(outcome)
