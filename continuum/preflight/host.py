"""What this machine has: memory that the kernel and control groups allow, and CUDA devices.

Devices are listed by the driver's management library (NVML): without importing torch, and without
claiming device memory for a context, since `plan` asks for them. The functions and the layout of
`nvmlMemory_t` are those of NVIDIA's "NVML API Reference Guide".
"""

import ctypes
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from continuum.experiment.precision import Capability

LIBRARY = "libnvidia-ml.so.1"
NAME_BYTES = 96
"""NVML_DEVICE_NAME_V2_BUFFER_SIZE."""
SUCCESS = 0
CUDA_DEVICES = ("nvidiactl", "nvidia0", "dxg")
"""Device files of NVIDIA's driver: on Linux, and in WSL."""


@dataclass(frozen=True)
class CudaDevice:
    """A GPU as its driver describes it."""

    name: str
    capability: Capability
    memory_bytes: int


@dataclass(frozen=True)
class HostMemory:
    """Bytes that all processes may use together."""

    total_bytes: int
    available_bytes: int
    """What is free or could be freed now."""


@dataclass(frozen=True)
class Host:
    """What is known about a machine."""

    memory: HostMemory | None
    has_cuda_device: bool
    device: CudaDevice | None = None
    """What all CUDA devices are; None if they differ or are unknown."""
    num_devices: int | None = None
    """CUDA devices; None if unknown."""
    in_slurm_job: bool | None = None
    """Whether `srun` can start processes on other nodes; None if unknown."""
    num_nodes: int | None = None
    """Nodes of the Slurm job; None if unknown, or if there is none."""

    def total_bytes(self, *, on_cpu: bool) -> int | None:
        """Memory that training can use: the host's, or that of a device."""
        if on_cpu:
            return self.memory.total_bytes if self.memory else None
        return self.device.memory_bytes if self.device else None


def host_now() -> Host:
    """This machine; inspected at most once a second, since a plan asks for each stage."""
    return _host_at(int(time.monotonic()))


@lru_cache(maxsize=1)
def _host_at(_second: int) -> Host:
    devices = cuda_devices() if has_cuda_device() else ()
    kinds = set(devices)  # only one kind is known whichever devices CUDA_VISIBLE_DEVICES leaves
    return Host(
        host_memory(),
        has_cuda_device(),
        device=devices[0] if len(kinds) == 1 else None,
        num_devices=_num_visible(len(devices)) if devices else None,
        in_slurm_job=has_slurm_job(),
        num_nodes=_num_nodes() if has_slurm_job() else None,
    )


def _num_visible(num_devices: int) -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return num_devices if visible is None else min(num_devices, len(visible.split(",")))


def has_slurm_job() -> bool:
    """Whether this process runs inside a Slurm job in which `srun` can start steps."""
    return "SLURM_JOB_ID" in os.environ and shutil.which("srun") is not None


def _num_nodes() -> int | None:
    stated = os.environ.get("SLURM_JOB_NUM_NODES", "")
    return int(stated) if stated.isdecimal() else None


def host_memory(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> HostMemory | None:
    """The machine's memory, or the share of a container or job; None if not on Linux.

    A control group's limit applies to all groups below it, so all groups from this process's own
    upwards are read: `memory.max` of version 2, `memory.limit_in_bytes` of version 1. Inside a
    container the path of the group may not be visible; then its root is the group itself.
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


def count_oom_kills(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> dict[str, int]:
    """How many processes the kernel has killed because memory ran out, so far; empty if unknown.

    By control group from this process's own upwards (`memory.events` of version 2,
    `memory.oom_control` of version 1), and for the machine, under an empty name.
    """
    found = {}
    for group in _memory_groups(proc, cgroups):
        for name in ("memory.events", "memory.oom_control"):
            count = _field(group / name, "oom_kill")
            if count is not None:
                found[str(group)] = count
    of_machine = _field(proc / "vmstat", "oom_kill")
    return found if of_machine is None else {**found, "": of_machine}


def has_cuda_device(dev: Path = Path("/dev")) -> bool:
    """Whether torch may find a CUDA device, without importing it."""
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
        except (OSError, ValueError):  # `max` means no limit
            continue
    return None


def _reclaimable(group: Path) -> int:
    """Bytes of the page cache that the group could release."""
    return _field(group / "memory.stat", "total_inactive_file", "inactive_file") or 0


def _field(path: Path, *names: str) -> int | None:
    """The first of these fields in a file of lines `name number`; None if there is none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = dict(line.partition(" ")[::2] for line in lines)
    return next((int(values[name]) for name in names if name in values), None)


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = [  # as ctypes reads it
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


def cuda_devices(library: str = LIBRARY) -> tuple[CudaDevice, ...]:
    """All GPUs of this machine; none if the library is missing or does not answer."""
    try:
        nvml = ctypes.CDLL(library)
        _call(nvml, "nvmlInit_v2")
    except OSError:
        return ()
    try:
        return tuple(_devices(nvml))
    except OSError:
        return ()
    finally:
        nvml.nvmlShutdown()


def _devices(nvml: ctypes.CDLL) -> Iterator[CudaDevice]:
    count = ctypes.c_uint()
    _call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    for number in range(count.value):
        device = ctypes.c_void_p()
        _call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(number), ctypes.byref(device))
        name = ctypes.create_string_buffer(NAME_BYTES)
        _call(nvml, "nvmlDeviceGetName", device, name, ctypes.c_uint(NAME_BYTES))
        major, minor = ctypes.c_int(), ctypes.c_int()
        capability = (ctypes.byref(major), ctypes.byref(minor))
        _call(nvml, "nvmlDeviceGetCudaComputeCapability", device, *capability)
        memory = _Memory()
        _call(nvml, "nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
        text = name.value.decode(errors="replace")
        yield CudaDevice(text, (major.value, minor.value), memory.total)


def _call(nvml: ctypes.CDLL, function: str, *arguments: object) -> None:
    """Call a function of the library.

    Raises:
        OSError: there is no such function, or it fails.
    """
    try:
        code = getattr(nvml, function)(*arguments)
    except AttributeError:
        raise OSError(f"{LIBRARY} has no {function}") from None
    if code != SUCCESS:
        raise OSError(f"{function} failed with code {code}")
