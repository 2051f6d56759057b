"""The machine, its driver and the libraries; and all tests that are marked `gpu`."""

import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import torch

from tests.benchmarks.commands import ROOT
from tests.gpu.parts import Setting, check, part

QUERY = "name,driver_version,memory.total,compute_cap,clocks.max.sm,ecc.mode.current"
PACKAGES = ("torch", "lightning", "litgpt", "litdata", "numpy", "triton")


@part("versions")
def versions(setting: Setting) -> dict[str, Any]:
    """Fails where torch cannot compute on the device."""
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    found |= {name: _version(name) for name in PACKAGES}
    if not setting.is_toy:
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gb": properties.total_memory / 1e9,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "nccl": torch.cuda.nccl.version(),  # type: ignore[no-untyped-call]
            "built_for": torch.cuda.get_arch_list(),
            "nvidia_smi": _nvidia_smi(),
        }
    ones = torch.ones(64, 64, device=setting.device)
    check(float((ones @ ones).sum()) == 64**3, "a product of ones is wrong")
    return found


@part("tests")
def marked_tests(setting: Setting) -> dict[str, Any]:
    """`pytest -m gpu`; without a GPU they are only collected."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    command += ["--collect-only"] if setting.is_toy else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    check(done.returncode == 0, f"pytest -m gpu: exit {done.returncode}: {done.stdout[-1500:]}")
    return {"summary": done.stdout.strip().splitlines()[-1]}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except ImportError:
        return None


def _nvidia_smi() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
