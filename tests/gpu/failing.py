"""Forced out of memory: exit code 5, and what to do about it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tests.gpu import flows
from tests.gpu.parts import Setting, check, part

LEFT_BYTES = 3 << 30
"""What is left free of the GPU."""
TOY_LIMIT_KB = 1_600_000
"""What a toy's process may allocate of the host's memory (`ulimit -d`)."""
TOY_MICRO = 8192
"""Sequences whose activations take more."""


@part("out-of-memory")
def out_of_memory(setting: Setting) -> dict[str, Any]:
    """Of a GPU that something else has filled; a toy's process is held to a limit."""
    fields: dict[str, Any] = {"max_steps": 2}
    if setting.is_toy:
        fields["runtime"] = {"micro_batch_size": TOY_MICRO}
        fields["global_batch_size"] = TOY_MICRO
    folder = flows.write(setting, setting.work_dir, micro=32, **fields)
    command = [sys.executable, "-m", "continuum", "run", str(folder)]
    if setting.is_toy:
        command = ["bash", "-c", f'ulimit -d {TOY_LIMIT_KB}; exec "$@"', "bash", *command]
    with _filled(setting):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "1000", "NO_COLOR": "1"},
            check=False,
        )
    told = done.stderr
    print(told)
    check(done.returncode == 5, f"exit code {done.returncode}: {told[-1500:]}")
    check("is out of memory; lower runtime.micro_batch_size" in told, f"no advice: {told[-1500:]}")
    check("in step 1: " in told, f"no place: {told[-1500:]}")
    return {"told": told.strip().splitlines()[-1][:400]}


@contextmanager
def _filled(setting: Setting) -> Iterator[None]:
    """Around what is to find the GPU nearly full."""
    if setting.is_toy:
        yield
        return
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(max(0, free - LEFT_BYTES), dtype=torch.uint8, device="cuda")
    try:
        yield
    finally:
        del hog
        torch.cuda.empty_cache()
