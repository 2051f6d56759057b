"""A model with tied embeddings, shared by two processes: one tensor in all of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from continuum.training.weights import EMBEDDING, HEAD, load_weights
from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, TOY_MODEL
from tests.processes.pairs import losses, spec

STAGES = (*FIRST_STAGES, "longer", "weights")


def tied_spec(kind: str = "single") -> str:
    """A tied model, trained by one process or two, then extended by one, then converted."""
    return spec(
        kind,
        steps=8,
        stages=STAGES,
        pretrain__model={**TOY_MODEL, "tied": True},
        longer__max_steps=12,
        longer__runtime={"micro_batch_size": 2},
    )


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("ddp", marks=pytest.mark.slow),
        pytest.param("fsdp", marks=pytest.mark.slow),
        pytest.param("sharded", marks=pytest.mark.slow),
    ],
)
def test_processes_train_a_tied_model_as_one_does(
    kind: str, prepare: Callable[..., Path], cli: Cli
) -> None:
    folder, alone = prepare(tied_spec(kind)), prepare(tied_spec(), "alone")
    cli("run", folder)
    cli("run", alone)
    assert losses(folder) == pytest.approx(losses(alone), abs=1e-5)
    found, expected = (
        load_weights(only(path, "runs/weights-*/output")) for path in (folder, alone)
    )
    assert torch.equal(found[HEAD], found[EMBEDDING])
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-3)
