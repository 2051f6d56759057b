"""CUDA devices as the driver's management library lists them: without torch, and without a context.

A plan asks, which must neither import torch nor claim memory of a device. The functions and the
layout of `nvmlMemory_t` are those of NVIDIA's "NVML API Reference Guide".
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

from continuum.experiment.precision import Capability

LIBRARY = "libnvidia-ml.so.1"
NAME_BYTES = 96
"""NVML_DEVICE_NAME_V2_BUFFER_SIZE."""
SUCCESS = 0


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = [  # as ctypes reads it
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class _SilentError(Exception):
    """The library does not answer."""


@dataclass(frozen=True)
class CudaDevice:
    """A GPU as its driver describes it."""

    name: str
    capability: Capability
    memory_bytes: int


def cuda_devices(library: str = LIBRARY) -> tuple[CudaDevice, ...]:
    """All GPUs of this machine; none where the library is missing or does not answer."""
    try:
        nvml = ctypes.CDLL(library)
        _call(nvml, "nvmlInit_v2")
    except (OSError, _SilentError):
        return ()
    try:
        return tuple(_devices(nvml))
    except _SilentError:
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
        told = name.value.decode(errors="replace")
        yield CudaDevice(told, (major.value, minor.value), memory.total)


def _call(nvml: ctypes.CDLL, function: str, *arguments: object) -> None:
    """Call a function of the library.

    Raises:
        _SilentError: there is no such function, or it fails.
    """
    try:
        code = getattr(nvml, function)(*arguments)
    except AttributeError:
        raise _SilentError from None
    if code != SUCCESS:
        raise _SilentError
