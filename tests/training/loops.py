"""A training task without an experiment around it, and what the loop says while it runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lightning import Fabric

from continuum.runs.events import Event
from continuum.runs.folder import StageRun
from continuum.training.data import Blocks, Share, TrainingData
from continuum.training.loop import Task, fit
from continuum.training.metrics import MetricsLog
from continuum.training.order import SampleOrder
from continuum.training.schedule import LearningRate
from continuum.training.state import TrainingState
from tests.training.samples import LENGTH

STEPS = 30
GLOBAL_BATCH = 4
PER_STEP = GLOBAL_BATCH * LENGTH


@dataclass(frozen=True)
class Schedule:
    """A learning rate both loops can follow."""

    warmup_steps: int
    min_lr: float

    def rate(self) -> LearningRate:
        return LearningRate(
            kind="cosine",
            start_tokens=0,
            end_tokens=STEPS * PER_STEP,
            warmup_tokens=self.warmup_steps * PER_STEP,
            decay_tokens=0,
            tokens_per_step=PER_STEP,
            start_lr=0.0,
            peak_lr=1e-2,
            final_lr=self.min_lr,
        )


WARM_COSINE = Schedule(warmup_steps=5, min_lr=1e-3)
CONSTANT = Schedule(warmup_steps=0, min_lr=1e-2)


def make_task(blocks: Blocks, micro: int = GLOBAL_BATCH, **changes: Any) -> Task:
    share = Share(0, 1, micro)
    order = SampleOrder(1, (len(blocks),), (1.0,), ("d" * 64,))
    task = Task(
        num_steps=STEPS,
        tokens_per_step=PER_STEP,
        rate=WARM_COSINE.rate(),
        max_norm=1.0,
        log_every=1,
        evaluate_every=None,
        checkpoint_every=1000,
        save_steps=frozenset(),
        data=TrainingData([blocks], order, GLOBAL_BATCH, share),
        validation={},
        evaluate_final=False,
    )
    return replace(task, **changes)


class Recorder:
    """Keeps what the loop saves, logs and reports."""

    def __init__(self, run: StageRun) -> None:
        self.run = run
        self.saved: list[int] = []
        self.events: list[Event] = []
        self.stop_after: int | None = None

    def fit(self, fabric: Fabric, state: TrainingState, task: Task) -> list[float]:
        self.fit_until(lambda: state.step == self.stop_after, fabric, state, task)
        return [row["loss"] for row in self.rows("loss")]

    def fit_until(
        self, should_stop: Callable[[], bool], fabric: Fabric, state: TrainingState, task: Task
    ) -> None:
        fit(
            fabric,
            state,
            task,
            log=MetricsLog(self.run, attempt=1, loggers=()),
            save=lambda state: self.saved.append(state.step),
            report=self.events.append,
            should_stop=should_stop,
        )

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [row for row in self.run.metrics() if name in row]
