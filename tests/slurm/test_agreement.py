"""The parameters of ranks on two nodes are compared, and each strategy keeps them equal."""

import json
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.jobs import submit

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


def test_ranks_hold_the_same_parameters_and_one_that_differs_is_found(
    slurm: Cluster, tmp_path: Path
) -> None:
    """One device a node, where LitGPT's own strategy trains each node by itself."""
    body = f"export PYTHONPATH={ROOT}\nexec {sys.executable} -m tests.slurm.ranks"
    job = submit(slurm, tmp_path, body=body)
    assert job.ends() == ("COMPLETED", 0), job.told()
    seen = [json.loads(line) for line in job.told().splitlines() if line.startswith("{")]
    for strategy in ("ddp", "fsdp"):
        told = {row["rank"]: row for row in seen if row["strategy"] == strategy}
        assert sorted(told) == [0, 1]
        assert told[0]["checksum"] == told[1]["checksum"]
        assert told[0]["local_loss"] != told[1]["local_loss"], "the ranks saw different batches"
    apart = [row["error"] for row in seen if row["strategy"] == "none"]
    assert len(apart) == 2
    for error in apart:
        assert error.startswith("the processes hold different parameters after one step (rank 0: ")
