"""Find what an experiment needs and this machine lacks; nothing is changed.

torch is imported in a process of its own, so that a broken installation can be reported.
"""

import fcntl
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum.disk_errors import describe_disk_error
from continuum.experiment.recipe import Recipe
from continuum.formatting import plural
from continuum.planning.plan import Plan
from continuum.preflight.host import host_now
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
    """What torch reports of itself and its devices, or why it cannot be used."""

    facts: dict[str, Any]
    fault: str | None = None


def ask_torch() -> Torch:
    """Import torch and the packages that need it, in another process."""
    command = [sys.executable, "-P", "-c", ASK_TORCH]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TORCH_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Torch({}, f"importing torch took longer than {TORCH_TIMEOUT_S:g} s")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        printed = done.stderr.strip().splitlines()
        last = printed[-1] if printed else f"Python exited with code {done.returncode}"
        return Torch({}, f"cannot import torch: {last}")
    facts: dict[str, Any] = json.loads(lines[-1])
    fault = facts.pop("unknown", None)
    return Torch(
        facts,
        f"torch can be imported, but not the packages that need it: {fault}" if fault else None,
    )


def find_missing(torch: Torch, folder: Path, plan: Plan | None) -> Iterator[str]:
    """Report what is missing, and how to fix it.

    Args:
        plan: The plan of the experiment to run; None checks what every experiment needs.
    """
    if torch.fault is not None:
        yield f"{torch.fault}; reinstall continuum in a fresh environment"
    yield from missing_packages()
    yield from unpaired(installed_version("torch"), installed_version("torchvision"))
    try:
        run_git(folder, "--version")
    except GitError as error:
        yield f"{error}; without Git, records have no commit and `diff` has no revisions"
    yield from lock_problems(folder)
    if plan is not None:
        yield from _missing_devices(plan, torch)
        yield from (f"{problem.path[1]}: {problem}" for problem in plan.problems)


def missing_packages() -> Iterator[str]:
    """Requirements of continuum that are missing or have an unsupported version."""
    from packaging.requirements import Requirement  # Lightning's requirement

    own = find_distribution("continuum")
    if own is None:
        yield "continuum itself is not installed; run `pip install -e .` in its folder"
        return
    for requirement in map(Requirement, own.requires or []):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed_version(requirement.name)
        if version is None:
            yield f"{requirement.name} is not installed; run `pip install '{requirement}'`"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield (
                f"{requirement.name} {version} is installed, but continuum needs "
                f"{requirement.specifier}; run `pip install '{requirement}'`"
            )


def unpaired(torch: str | None, torchvision: str | None) -> Iterator[str]:
    """Report versions of torch and torchvision that are not of the same release."""
    if torch is None or torchvision is None:
        return
    try:
        major, minor = (int(part) for part in torch.split(".")[:2])
        other_major, other = (int(part) for part in torchvision.split(".")[:2])
    except ValueError:  # a build of someone's own
        return
    if (major, other_major) == (2, 0) and other != minor + TORCHVISION_AHEAD:
        yield (
            f"torchvision {torchvision} does not match torch {torch}; "
            f"run `pip install 'torchvision==0.{minor + TORCHVISION_AHEAD}.*'`"
        )


def lock_problems(folder: Path) -> Iterator[str]:
    """Report a folder in which files cannot be written and locked."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".continuum-doctor-") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        reason = describe_disk_error(error, folder) or f"{folder}: {error.strerror}"
        yield f"cannot write and lock files in the experiment's folder: {reason}"


def free_bytes(folder: Path) -> int | None:
    """Free space on the folder's disk; None if unknown."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _missing_devices(plan: Plan, torch: Torch) -> Iterator[str]:
    """Stages that ask for CUDA devices which the driver has and torch does not find."""
    devices = torch.facts.get("cuda_devices")
    if devices is None or not host_now().has_cuda_device:  # the plan reports a missing driver
        return
    build = "" if torch.facts.get("cuda_build") else " (this build of torch has no CUDA support)"
    for planned in plan:
        recipe = planned.recipe
        runtime = recipe.runtime if isinstance(recipe, Recipe) else None
        if runtime and runtime.accelerator == "cuda" and len(devices) < runtime.devices:
            yield (
                f"{planned.name}: runtime needs {plural(runtime.devices, 'CUDA device')}, "
                f"but torch finds {len(devices)}{build}; check the driver with nvidia-smi, or use "
                "accelerator: auto or cpu"
            )
