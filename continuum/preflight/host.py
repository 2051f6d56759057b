"""What this machine has: memory that the kernel and control groups allow, and CUDA devices."""

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from continuum.preflight.nvml import CudaDevice, cuda_devices

CUDA_DEVICES = ("nvidiactl", "nvidia0", "dxg")
"""Device files of NVIDIA's driver: on Linux, and in Windows' subsystem for it."""


@dataclass(frozen=True)
class HostMemory:
    """Bytes that processes here may use together."""

    total_bytes: int
    available_bytes: int
    """Of them, what is free or could be freed now."""


@dataclass(frozen=True)
class Host:
    """This machine, as it was a moment ago."""

    memory: HostMemory | None
    has_cuda_device: bool
    device: CudaDevice | None = None
    """What each CUDA device here is; None if they differ, or the driver does not say."""


def host_now() -> Host:
    """This machine; looked at once a second at most, since a plan asks for each of its stages."""
    return _host_at(int(time.monotonic()))


@lru_cache(maxsize=1)
def _host_at(_second: int) -> Host:
    has_cuda = has_cuda_device()
    return Host(host_memory(), has_cuda, _only_kind(cuda_devices()) if has_cuda else None)


def _only_kind(devices: Collection[CudaDevice]) -> CudaDevice | None:
    """The device that all are like, so that it is one whichever CUDA_VISIBLE_DEVICES leaves."""
    kinds = set(devices)
    return kinds.pop() if len(kinds) == 1 else None


def host_memory(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> HostMemory | None:
    """The machine's memory, or a container's or a job's share of it; None off Linux.

    A control group's limit holds for all groups below it, so each from this process's own upwards
    is looked at: `memory.max` of version 2, `memory.limit_in_bytes` of version 1. Inside a
    container the group's own path may not be visible; its root then is the group itself.
    """
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = {
        key: int(value.split()[0]) * 1024 for key, _, value in (x.partition(":") for x in lines)
    }
    total, available = found["MemTotal"], found.get("MemAvailable", found["MemFree"])
    for group in _memory_groups(proc, cgroups):
        limit = _number(group, "memory.max", "memory.limit_in_bytes")
        used = _number(group, "memory.current", "memory.usage_in_bytes")
        if limit is None or limit >= found["MemTotal"]:
            continue
        total = min(total, limit)
        available = min(available, limit - (used or 0) + _reclaimable(group))
    return HostMemory(total, max(0, available))


def has_cuda_device(dev: Path = Path("/dev")) -> bool:
    """Whether torch might find a CUDA device, told without importing it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return False
    return any((dev / name).exists() for name in CUDA_DEVICES)


def _memory_groups(proc: Path, cgroups: Path) -> Iterator[Path]:
    try:
        lines = (proc / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root = cgroups
        elif "memory" in controllers.split(","):
            root = cgroups / "memory"
        else:
            continue
        group = root / path.lstrip("/")
        yield from (place for place in (group, *group.parents) if place.is_relative_to(root))


def _number(group: Path, *names: str) -> int | None:
    for name in names:
        try:
            return int((group / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # `max` is no limit
            continue
    return None


def _reclaimable(group: Path) -> int:
    """Bytes of the page cache that the group holds and would give up."""
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    values = dict(line.split(" ", 1) for line in lines)
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))
