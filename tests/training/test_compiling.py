"""What torch.compile makes of training and evaluation: one graph each, in whatever order they come.

The graphs are those that dynamo hands to a backend, here one that keeps them and runs them as they
are.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from continuum.errors import StoppedError
from continuum.runs.folder import StageRun
from continuum.training.data import Blocks, ValidationData
from continuum.training.loop import Task
from continuum.training.state import TrainingState
from tests.training.loops import Recorder, make_task
from tests.training.samples import LENGTH, assert_equal_tensors, cpu_fabric, make_state

pytestmark = [
    pytest.mark.usefixtures("_nothing_compiled"),
]
MICRO_BATCH, ROWS = 2, 3
SEQUENCES = 2 * ROWS + 1
"""Of the validation split: its last batch has one."""


def ragged_task(blocks: Blocks) -> Task:
    split = {"tokens": ValidationData(blocks, SEQUENCES, rows=ROWS)}
    return make_task(blocks, MICRO_BATCH, num_steps=6, validation=split, evaluate_every=2)


class Graphs:
    """The sizes of what the graphs of a model take."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.is_of_any_size = False

    def backend(self) -> Callable[..., Any]:
        """What keeps them; a function, since Fabric copies any other object."""

        def keep(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
            self.is_of_any_size |= any(isinstance(it, torch.SymInt) for it in inputs)
            tokens = [it for it in inputs if torch.is_tensor(it) and it.dtype == torch.int64]
            self.sizes += [tuple(it.shape) for it in tokens]
            return graph.forward

        return keep


def fit(state: TrainingState, task: Task, folder: Path, stop_after: int | None = None) -> None:
    folder.mkdir()
    recorder = Recorder(StageRun(folder))
    recorder.stop_after = stop_after
    recorder.fit(cpu_fabric(), state, task)


@pytest.mark.parametrize("owes", [False, True], ids=["trains first", "evaluates first"])
def test_training_and_evaluation_have_a_graph_each(
    owes: bool, blocks: Blocks, tmp_path: Path
) -> None:
    graphs = Graphs()
    state = make_state(cpu_fabric(), backend=graphs.backend())
    state.evaluation_pending = owes
    fit(state, ragged_task(blocks), tmp_path / "pretrain-000000000000")
    assert not graphs.is_of_any_size
    assert sorted(graphs.sizes) == [(MICRO_BATCH, LENGTH), (ROWS, LENGTH)]
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["recompile_limit"]


@pytest.mark.slow
def test_an_owed_evaluation_of_a_ragged_batch_changes_no_bit_of_a_compiled_run(
    blocks: Blocks, tmp_path: Path
) -> None:
    task = ragged_task(blocks)
    unbroken = make_state(cpu_fabric(), backend="inductor")
    fit(unbroken, task, tmp_path / "pretrain-000000000000")
    torch._dynamo.reset()  # as in a new process
    broken = make_state(cpu_fabric(), backend="inductor")
    with pytest.raises(StoppedError):
        fit(broken, task, tmp_path / "pretrain-000000000001", stop_after=4)
    assert broken.step == 4
    assert broken.evaluation_pending, "the stop came before it"
    torch._dynamo.reset()
    recovered = make_state(cpu_fabric(), seed=9, backend="inductor")
    recovered.restore(broken.snapshot())
    fit(recovered, task, tmp_path / "pretrain-000000000002")
    assert_equal_tensors(recovered.snapshot()["model"], unbroken.snapshot()["model"])
    assert recovered.metrics == unbroken.metrics
