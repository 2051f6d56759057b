"""What loggers wrote, read back through the libraries that show it.

Each reader takes the run's `loggers` folder and gives, for every metric, its points in the order
they lie there: (step, value, time in seconds since 1970 or None where the format has none).
"""

import csv
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,  # tensorboard ships no type information
)
from wandb.proto import wandb_internal_pb2

from continuum.training.loggers.series import environment

Points = dict[str, list[tuple[int, float, float | None]]]
NO_METRICS = ("_", "trainer/")
"""How the names of W&B's and Lightning's own columns begin."""
WANDB_HEAD = b":W&B"
WANDB_HEAD_BYTES = 7
BLOCK_BYTES = 32768


def read_csv(folder: Path) -> Points:
    points: Points = {}
    with (folder / "csv/metrics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    points.setdefault(name, []).append((step, float(value), None))
    return points


def read_tensorboard(folder: Path) -> Points:
    reader = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "tensors": 0})
    reader.Reload()
    return {
        name: [(point.step, point.value, point.wall_time) for point in reader.Scalars(name)]
        for name in reader.Tags()["scalars"]
    }


def tensorboard_text(folder: Path, name: str) -> str:
    """A text of TensorBoard."""
    reader = EventAccumulator(str(folder / "tensorboard"))
    reader.Reload()
    (shown,) = reader.Tensors(f"{name}/text_summary")
    text: str = shown.tensor_proto.string_val[0].decode()
    return text


def mlflow_run(uri: str) -> tuple[MlflowClient, Run]:
    """The one run of a store."""
    with environment(MLFLOW_ALLOW_FILE_STORE="true"):
        client = MlflowClient(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    return client, run


def read_mlflow(folder: Path, uri: str | None = None) -> Points:
    client, run = mlflow_run(uri or (folder / "mlflow").as_uri())
    return {
        name: [
            (point.step, point.value, point.timestamp / 1000)
            for point in client.get_metric_history(run.info.run_id, name)
        ]
        for name in run.data.metrics
    }


def wandb_file(folder: Path) -> Path:
    """The one file of an offline run."""
    (found,) = folder.glob("wandb/wandb/offline-run-*/run-*.wandb")
    return found


def read_wandb(folder: Path) -> Points:
    points: Points = {}
    for record in wandb_records(wandb_file(folder)):
        if record.WhichOneof("record_type") == "history":
            row = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            step, at = int(row["trainer/global_step"]), float(row["_timestamp"])
            for name, value in row.items():
                if not name.startswith(NO_METRICS):
                    points.setdefault(name, []).append((step, float(value), at))
    return points


def wandb_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for record in wandb_records(wandb_file(folder)):
        if record.WhichOneof("record_type") == "config":
            config |= {item.key: json.loads(item.value_json) for item in record.config.update}
    return config


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of W&B's file: LevelDB's log format behind a head of its own."""
    data = path.read_bytes()
    assert data.startswith(WANDB_HEAD)
    position, parts = WANDB_HEAD_BYTES, b""
    while position + 7 <= len(data):
        if BLOCK_BYTES - position % BLOCK_BYTES < 7:
            position += BLOCK_BYTES - position % BLOCK_BYTES
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        position += 7
        parts += data[position : position + length]
        position += length
        if kind in (1, 4):  # a whole record, or the last part of one
            record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # protobuf
            record.ParseFromString(parts)
            yield record
            parts = b""


READERS: dict[str, Callable[[Path], Points]] = {
    "csv": read_csv,
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "mlflow": read_mlflow,
}
