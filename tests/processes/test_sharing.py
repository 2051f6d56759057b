"""What two processes tell each other in a step, in which types, and what each of them holds."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.processes import share_model
from tests.processes.test_shards import torchrun
from tests.training.samples import token_stream, write_split

pytestmark = pytest.mark.slow  # each starts torchrun
MICRO_BATCHES = 2
GROUPS = 3
"""Of parameters that FSDP2 gathers at once: two blocks, and the rest."""

Take = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    """Take steps in some processes; what the first says. Those of equal arguments only once."""
    folder: Path = tmp_path_factory.mktemp("tokens") / "train"
    write_split(folder, token_stream(2000))

    @cache
    def take(strategy: str, precision: str, *flags: str, processes: int = 2) -> dict[str, Any]:
        arguments = (folder, strategy, precision, MICRO_BATCHES, *flags)
        told = torchrun(processes, share_model.__file__, *arguments)
        assert len(told) == processes
        return next(line for line in told if line["rank"] == 0)

    return take


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_fsdp_gathers_weights_in_bf16_and_adds_gradients_up_in_fp32(
    precision: str, take: Take
) -> None:
    told = take("fsdp", precision)
    kinds = {"allgather_base bfloat16", "reduce_scatter_base float32"}
    assert set(told["collectives"]) == kinds
    assert (told["weight"], told["rope"]) == ("torch.bfloat16", "torch.float32")


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("32-true", 1e-6), ("bf16-mixed", 2e-3), ("bf16-true", 5e-3)]
)
def test_fsdp_learns_what_one_process_does(precision: str, tolerance: float, take: Take) -> None:
    alone = take("fsdp", precision, processes=1)
    assert take("fsdp", precision)["losses"] == pytest.approx(alone["losses"], rel=tolerance)


def test_fsdp_shards_the_gradients_of_every_micro_batch(take: Take) -> None:
    told = take("fsdp", "32-true")
    assert told["collectives"].count("reduce_scatter_base float32") == GROUPS * MICRO_BATCHES
    assert told["held_bytes"] == [0, told["gradient_bytes"]]


def test_fsdp_adds_up_whole_gradients_if_asked_to(take: Take) -> None:
    told = take("fsdp", "32-true", "unsharded")
    assert told["collectives"].count("reduce_scatter_base float32") == GROUPS
    assert told["held_bytes"] == [0, 0], "its shards have none yet"
    assert told["losses"] == pytest.approx(take("fsdp", "32-true")["losses"], rel=1e-6)


def test_ddp_adds_gradients_up_where_they_lie_and_sends_no_buffers(take: Take) -> None:
    told = take("ddp", "32-true")
    assert set(told["collectives"]) == {"allreduce float32"}
    assert told["gradient_storages"] < told["parameters"]
