"""Two processes that compute activations again, through real torchrun and gloo."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, small_flow
from tests.processes.pairs import final_state, losses


def spec(strategy: str, mode: str) -> str:
    runtime: dict[str, Any] = {
        "micro_batch_size": 1,
        "devices": 2,
        "strategy": strategy,
        "activation_checkpointing": mode,
    }
    return small_flow(only=FIRST_STAGES, pretrain__max_steps=4, pretrain__runtime=runtime)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_the_same_bits_from_what_is_computed_again(
    strategy: str, prepare: Callable[..., Path], cli: Cli
) -> None:
    plain = prepare(spec(strategy, "off"), "off")
    cli("run", plain)
    for mode in ("selective", "full"):
        folder = prepare(spec(strategy, mode), mode)
        cli("run", folder)
        resolved = json.loads(only(folder, "runs/pretrain-*/resolved.json").read_text())
        assert resolved["activation_checkpointing"] == mode
        assert losses(folder) == losses(plain)
        assert final_state(folder) == final_state(plain)
