"""CSV and TensorBoard: files that are rewritten from the rows whenever a run starts or resumes.

TensorBoard's own method (an event that makes readers drop everything after a step) leaves the
dropped points in the files; here each step is in them once, with its own time.
"""

import shutil

from lightning.fabric.loggers.csv_logs import CSVLogger
from lightning.fabric.loggers.tensorboard import TensorBoardLogger

from continuum.runs.files import write_text
from continuum.training.loggers.series import LoggedRun, Outcome, Row, as_yaml, numbers, time_of

FLUSH_S = 10
"""Seconds until a point appears in TensorBoard."""


class CsvSeries:
    """`csv/metrics.csv`, and the configuration in `csv/hparams.yaml`."""

    def __init__(self, logged: LoggedRun) -> None:
        self._logged = logged
        self._folder = logged.folder / "csv"
        self._logger: CSVLogger | None = None

    def begin(self, rows: list[Row]) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._logger = CSVLogger(root_dir=self._logged.folder, name="csv", version="")
        for row in rows:
            self._logger.experiment.log_metrics(numbers(row), row["step"])
        self._logger.save()
        write_text(self._folder / "hparams.yaml", as_yaml(self._logged.config))

    def write(self, row: Row) -> None:
        assert self._logger is not None
        self._logger.experiment.log_metrics(numbers(row), row["step"])
        self._logger.save()

    def end(self, outcome: Outcome) -> None:
        assert self._logger is not None
        self._logger.finalize(outcome)


class TensorBoardSeries:
    """Event files in `tensorboard/`, the configuration as the text `config`."""

    def __init__(self, logged: LoggedRun) -> None:
        self._logged = logged
        self._folder = logged.folder / "tensorboard"
        self._logger: TensorBoardLogger | None = None

    def begin(self, rows: list[Row]) -> None:
        if self._logger is not None:
            self._logger.finalize("failed")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._logger = TensorBoardLogger(
            root_dir=self._logged.folder, name="tensorboard", version="", flush_secs=FLUSH_S
        )
        # Markdown shows indented text verbatim.
        text = "".join(f"    {line}\n" for line in as_yaml(self._logged.config).splitlines())
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
