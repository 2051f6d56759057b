"""What an experiment needs of this machine, and what of it is missing; asking changes nothing.

torch is asked in a process of its own: where it is broken, that is what there is to say.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum.disk_errors import describe_disk_error
from continuum.planning.plan import Plan
from continuum.runs.git import GitError, run_git
from continuum.runs.installed import find_distribution, installed_version

TORCH_TIMEOUT_S = 180.0
"""For an import on a cold file system."""
TORCHVISION_AHEAD = 15
"""torch 2.N and torchvision 0.(N + 15) come from one release."""
ASK_TORCH = """\
import json
found = {}
import torch
found["torch"] = torch.__version__
found["cuda_build"] = torch.version.cuda
found["cuda_devices"] = [
    torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())
] if torch.cuda.is_available() else []
found["num_threads"] = torch.get_num_threads()
found["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
found["cudnn"] = torch.backends.cudnn.version() if found["cuda_devices"] else None
try:
    import torchvision
    found["torchvision"] = torchvision.__version__
    import litgpt, litdata, lightning
except Exception as error:
    found["unknown"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Torch:
    """What torch says of itself and its devices, or why it says nothing."""

    facts: dict[str, Any]
    fault: str | None = None


def ask_torch() -> Torch:
    """Import torch and what stands on it, in another process."""
    command = [sys.executable, "-P", "-c", ASK_TORCH]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TORCH_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Torch({}, f"torch was not imported within {TORCH_TIMEOUT_S:g} s")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines()
        last = said[-1] if said else f"Python ended with exit code {done.returncode}"
        return Torch({}, f"torch cannot be imported: {last}")
    facts: dict[str, Any] = json.loads(lines[-1])
    fault = facts.pop("unknown", None)
    return Torch(
        facts, f"torch can be imported, what stands on it cannot: {fault}" if fault else None
    )


def find_missing(torch: Torch, folder: Path, plan: Plan | None) -> Iterator[str]:
    """What has to be there and is not, and what to do about it.

    Args:
        plan: Of the experiment that is to run; without one, only what all of them need.
    """
    if torch.fault is not None:
        yield f"{torch.fault}; install continuum anew, in a fresh environment"
    yield from missing_packages()
    yield from unpaired(installed_version("torch"), installed_version("torchvision"))
    try:
        run_git(folder, "--version")
    except GitError as error:
        yield f"{error}; without it no record knows its commit, and `diff` no revisions"
    yield from lock_problems(folder)
    if plan is not None:
        runtimes = {p.name: p.recipe.runtime for p in plan if hasattr(p.recipe, "runtime")}  # type: ignore[union-attr]  # what trains has one
        for name, runtime in runtimes.items():
            yield from (f"{name}: {problem}" for problem in _missing_for(runtime, torch))
        yield from (f"{problem.path[1]}: {problem}" for problem in plan.problems)


def missing_packages() -> Iterator[str]:
    """Requirements of continuum that are not installed, or in another version than it takes."""
    from packaging.requirements import Requirement  # Lightning's requirement

    own = find_distribution("continuum")
    if own is None:
        yield "continuum itself is not installed; `pip install -e .` in its folder installs it"
        return
    for requirement in map(Requirement, own.requires or []):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed_version(requirement.name)
        if version is None:
            yield f"{requirement.name} is not installed; `pip install '{requirement}'` installs it"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield (
                f"{requirement.name} is {version}, and continuum needs {requirement.specifier}; "
                f"`pip install '{requirement}'` installs it"
            )


def unpaired(torch: str | None, torchvision: str | None) -> Iterator[str]:
    """Why these two cannot work together: they come from different releases."""
    if torch is None or torchvision is None:
        return
    try:
        major, minor = (int(part) for part in torch.split(".")[:2])
        other_major, other = (int(part) for part in torchvision.split(".")[:2])
    except ValueError:  # a build of someone's own
        return
    if (major, other_major) == (2, 0) and other != minor + TORCHVISION_AHEAD:
        yield (
            f"torchvision {torchvision} is not of the same release as torch {torch}; "
            f"`pip install 'torchvision==0.{minor + TORCHVISION_AHEAD}.*'` installs its pair"
        )


def lock_problems(folder: Path) -> Iterator[str]:
    """Why a run could not be the only writer of the folder: the file system has no `flock`."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".continuum-doctor-") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        told = describe_disk_error(error, folder) or f"{folder}: {error.strerror}"
        yield f"no file can be written and locked in the experiment's folder: {told}"


def free_bytes(folder: Path) -> int | None:
    """What may still be written on the folder's disk."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _missing_for(runtime: Any, torch: Torch) -> Iterable[str]:
    devices = torch.facts.get("cuda_devices")
    if runtime.accelerator == "cuda" and devices is not None and len(devices) < runtime.devices:
        found = f"finds {len(devices)}" if devices else "finds none"
        build = "" if torch.facts.get("cuda_build") else "; this build of torch is without CUDA"
        yield (
            f"runtime asks for {runtime.devices} CUDA device(s), and torch {found} here{build}; "
            "check the driver with nvidia-smi, or use auto or cpu"
        )
    if runtime.num_nodes > 1:
        absent = [name for name in ("srun", "scontrol") if shutil.which(name) is None]
        if absent:
            listed = " and no ".join(absent)
            yield f"runtime.num_nodes is {runtime.num_nodes}, and there is no {listed}"
        elif "SLURM_JOB_ID" not in os.environ:
            yield (
                f"runtime.num_nodes is {runtime.num_nodes}, and this is no Slurm job; "
                "submit the run with sbatch"
            )
