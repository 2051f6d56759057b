"""A GPU's failures are known by the texts that torch, CUDA, NCCL and gloo print."""

import ctypes
from importlib.metadata import files
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from continuum.execution.launchers import CrashOutput
from continuum.experiment.runtime import Runtime
from continuum.preflight.device_errors import (
    describe_device_fault,
    fault_in_log,
    find_fault,
    is_timeout,
    waiting_ranks,
)
from continuum.preflight.memory import MEMORY_REMEDY
from continuum.training.resolved import driver_refusal

OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 6.14 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 3.52 GiB is free. Including non-PyTorch memory, this process has 75.58 GiB memory in "
    "use. Of the allocated memory 74.11 GiB is allocated by PyTorch, and 812.41 MiB is reserved "
    "by PyTorch but unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for "
    "Memory Management  (https://docs.pytorch.org/docs/stable/notes/cuda.html)"
)
NCCL_OUT_OF_MEMORY = (
    "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, unhandled cuda error "
    "(run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5\nncclUnhandledCudaError: Call to "
    "CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'"
)
NCCL_FAILED = (
    "NCCL error in: /pytorch/torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:3690, unhandled "
    "system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5\nncclSystemError: "
    "System call (e.g. socket, malloc) or external library call failed or device error."
)
WATCHDOG = (
    "[rank1]:[E1129 11:40:09.123456789 ProcessGroupNCCL.cpp:685] [Rank 1] Watchdog caught "
    "collective operation timeout: WorkNCCL(SeqNum=3411, OpType=ALLREDUCE, NumelIn=26265600, "
    "NumelOut=26265600, Timeout(ms)=600000) ran for 600044 milliseconds before timing out."
)
GLOO_TIMEOUT = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting "
    "3000ms for recv operation to complete"
)
GLOO_LOST = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer "
    "[127.0.0.1]:16033. This is typically caused by a remote worker crashing."
)
OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU "
    "driver by downloading and installing a new version"
)
ASYNCHRONOUS = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the "
    "stacktrace below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError(OUT_OF_MEMORY), "the GPU is out of memory; lower runtime.micro_b"),
        (RuntimeError("CUDA error: out of memory" + ASYNCHRONOUS), "the GPU is out of memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(h)`"),
            "the GPU is out of memory",
        ),
        (torch.distributed.DistBackendError(NCCL_OUT_OF_MEMORY), "the GPU is out of memory"),
        (
            torch.AcceleratorError(
                "CUDA error: uncorrectable ECC error encountered" + ASYNCHRONOUS
            ),
            "hardware fault",
        ),
        (RuntimeError(OLD_DRIVER), "driver is too old for this build of torch"),
        (
            torch.distributed.DistBackendError(NCCL_FAILED),
            "NCCL, the communication library of GPUs, failed",
        ),
        (RuntimeError(GLOO_TIMEOUT), "a collective operation timed out after 3 s"),
        (
            RuntimeError("CUDA error: device-side assert triggered" + ASYNCHRONOUS),
            "got an invalid input",
        ),
        (MemoryError(), "the host is out of memory"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_told_by_its_cause(error: BaseException, told: str) -> None:
    fault = describe_device_fault(error)
    assert fault is not None
    assert fault.is_cause
    assert told in fault.message


def test_out_of_memory_comes_with_the_ways_out_and_torchs_own_numbers() -> None:
    fault = describe_device_fault(torch.OutOfMemoryError(OUT_OF_MEMORY))
    assert fault is not None
    assert MEMORY_REMEDY in fault.message
    assert "Tried to allocate 6.14 GiB. GPU 0 has a total capacity of 79.11 GiB" in fault.message


def test_a_fault_below_a_compilers_error_is_found() -> None:
    try:
        try:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        except RuntimeError as inner:
            raise ValueError("the backend failed") from inner
    except ValueError as outer:
        fault = describe_device_fault(outer)
    assert fault is not None
    assert "out of memory" in fault.message


def test_other_errors_are_left_to_their_traceback() -> None:
    for error in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x3 and 4x3)"),
        ValueError("NCCL error in: a text that somebody typed"),
        KeyError("Xid"),
    ):
        assert describe_device_fault(error) is None


def test_a_lost_peer_is_no_cause() -> None:
    fault = describe_device_fault(RuntimeError(GLOO_LOST))
    assert fault is not None
    assert not fault.is_cause


def library(name: str, package: str) -> ctypes.CDLL:
    """A shared library of one of NVIDIA's wheels."""
    try:
        found = [file for file in files(package) or [] if file.name.startswith(name)]
        return ctypes.CDLL(str(found[0].locate()))
    except (ImportError, IndexError, OSError):
        pytest.skip(f"{package} is not installed")


HARDWARE = (214, 220, 226, 714)
KERNEL = (700, 715, 716, 719)
OUTDATED = (35, 222, 803)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((2,), "out of memory"),
        (HARDWARE, "hardware fault"),
        (KERNEL, "a GPU kernel failed"),
        (OUTDATED, "too old"),
        ((209,), "no code for this GPU"),
        ((100,), "torch finds no GPU"),
        ((46,), "holds the GPU exclusively"),
        ((802,), "nvidia-fabricmanager"),
        ((710,), "got an invalid input"),
    ],
)
def test_cudas_own_words_for_its_errors_are_known(numbers: tuple[int, ...], told: str) -> None:
    cuda = library("libcudart.so", "nvidia-cuda-runtime")
    cuda.cudaGetErrorString.restype = ctypes.c_char_p
    for number in numbers:
        text = cuda.cudaGetErrorString(number).decode()
        fault = find_fault(f"CUDA error: {text}{ASYNCHRONOUS}")
        assert fault is not None, text
        assert told in fault.message


def test_nccls_own_words_for_its_errors_are_known() -> None:
    nccl = library("libnccl.so", f"nvidia-nccl-cu{(torch.version.cuda or '0').split('.')[0]}")
    nccl.ncclGetErrorString.restype = ctypes.c_char_p
    for number in range(1, 7):
        text = nccl.ncclGetErrorString(number).decode()
        fault = find_fault(f"NCCL error in: NCCLUtils.cpp:94, {text}, NCCL version 2.27.5")
        assert fault is not None, text
        assert fault.is_cause == (text != "remote process exited or there was a network error")


def test_a_watchdogs_last_words_name_the_operation_and_who_waited(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("an earlier attempt: CUDA error: out of memory\n", encoding="utf-8")
    output = CrashOutput(log)
    trace = "\n".join(f"frame #{n}: <unknown function> (0x7f in libc.so.6)" for n in range(40))
    with log.open("a", encoding="utf-8") as file:
        file.write(f"seed set to 1\n{WATCHDOG}\n{trace}\n")
    told = output.describe("rank 1 on here was killed by SIGABRT")
    assert "(allreduce) timed out after 600 s waiting for another process" in told
    assert "raise runtime.collective_timeout" in told
    assert is_timeout(told)
    assert "out of memory" not in told
    assert waiting_ranks(log.read_text(encoding="utf-8")) == {1}


def test_a_log_that_speaks_of_other_things_names_no_fault() -> None:
    assert fault_in_log("step 3\nXid is a word\nConnection closed\n") is None
    assert (
        fault_in_log("NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus. error")
        is not None
    )


def test_auto_does_not_train_past_a_driver_that_is_too_old() -> None:
    told = driver_refusal(OLD_DRIVER)
    assert told is not None
    assert "update the driver" in told
    assert "set runtime.accelerator to cpu" in told
    assert "(found version 12020)" in told
    assert driver_refusal("No CUDA GPUs are available") is None


@pytest.mark.parametrize(
    ("written", "seconds"), [("10m", 600), ("90s", 90), ("1.5h", 5400), (45, 45), ("2d", 172_800)]
)
def test_a_timeout_is_written_as_people_write_durations(written: str | int, seconds: float) -> None:
    assert Runtime.model_validate({"collective_timeout": written}).collective_timeout == seconds


@pytest.mark.parametrize("written", ["soon", "0m", -1, "10 minutes", "inf"])
def test_what_is_no_duration_is_refused(written: str | int) -> None:
    with pytest.raises(ValidationError, match="collective_timeout"):
        Runtime.model_validate({"collective_timeout": written})
