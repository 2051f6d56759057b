"""What a GPU and the libraries that drive it fail with, in words the user can act on.

torch raises a type of its own for few of these failures. The others are RuntimeErrors that carry
the text of CUDA, cuBLAS, NCCL or gloo, wrapped by whoever was at work, or only lines in the log of
a process that NCCL's watchdog has aborted. So what is recognised is the text, and the traceback
stays in the log.
"""

import re
from dataclasses import dataclass

from continuum.disk_errors import causes_of
from continuum.preflight.memory import MEMORY_REMEDY

DRIVER_TOO_OLD = (
    r"driver on your system is too old|driver version is insufficient for CUDA runtime"
    r"|unsupported display driver / cuda driver combination|compiled with an unsupported toolchain"
)
"""Of torch, and of CUDA's errors 35, 803 and 222."""
_TIMEOUT_MS = re.compile(
    r"Watchdog caught collective operation timeout: \w+\(.*?OpType=(?P<operation>\w+)"
    r".*?Timeout\(ms\)=(?P<nccl>\d+)|Timed out waiting (?P<gloo>\d+)ms for (?:recv|send) operation"
)


@dataclass(frozen=True)
class DeviceFault:
    """One failure, and what to do about it."""

    message: str
    is_cause: bool = True
    """False where the process only lost another one, whose own end says why."""


@dataclass(frozen=True)
class _Known:
    pattern: str
    message: str
    is_cause: bool = True


_KNOWN = (
    _Known(
        r"(?:CUDA|HIP|XPU) out of memory|CUDA error: out of memory|Cuda failure 2 "
        r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED",
        f"the GPU is out of memory; {MEMORY_REMEDY}. PYTORCH_ALLOC_CONF=expandable_segments:True "
        "helps where much is reserved but unallocated, and nvidia-smi shows what else uses the GPU",
    ),
    _Known(
        r"DefaultCPUAllocator: (?:can't allocate|not enough) memory",
        f"the host is out of memory; {MEMORY_REMEDY}",
    ),
    _Known(
        r"uncorrectable ECC error|uncorrectable NVLink error|\bXid \(|fallen off the bus"
        r"|GPU is lost|hardware stack error|peer GPU memory over nvlink or a hardware error"
        r"|Unable to determine the device handle",
        "the GPU reports a hardware fault; `nvidia-smi -q -d ECC,PAGE_RETIREMENT` and "
        "`dmesg | grep -i xid` name it. Reset or replace the GPU, or leave it out with "
        "CUDA_VISIBLE_DEVICES, and run again: the next run resumes from the last checkpoint",
    ),
    _Known(
        DRIVER_TOO_OLD,
        "the NVIDIA driver is too old for this build of torch; update the driver, or install a "
        "torch that is built for an older CUDA (https://pytorch.org/get-started/previous-versions)",
    ),
    _Known(
        r"no kernel image is available for execution on the device",
        "this build of torch has no code for this GPU; install a torch that supports its compute "
        "capability (`python -c 'import torch; print(torch.cuda.get_arch_list())'` lists them)",
    ),
    _Known(
        r"no NVIDIA driver on your system|no CUDA-capable device is detected"
        r"|No CUDA GPUs are available",
        "torch finds no GPU here; check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES, or "
        "set runtime.accelerator to cpu",
    ),
    _Known(
        r"CUDA-capable device\(s\) is/are busy or unavailable",
        "another process holds the GPU exclusively; nvidia-smi shows it",
    ),
    _Known(
        r"CUDA error: system not yet initialized",
        "CUDA is not ready on this machine: on systems with NVSwitch the service "
        "nvidia-fabricmanager must run, in the driver's own version",
    ),
    _Known(
        r"device-side assert triggered",
        "a GPU kernel refused its input, mostly an index outside a tensor such as a token id "
        "outside the vocabulary; `continuum verify` checks the dataset's files, and a run with "
        "CUDA_LAUNCH_BLOCKING=1 names the operation",
    ),
    _Known(
        r"No available kernel\. Aborting execution",
        "the kernel of runtime.attention cannot compute this model's attention on this device or "
        "in this precision (cudnn and flash take no fp32); set runtime.attention to auto",
    ),
    _Known(
        r"illegal memory access was encountered|unspecified launch failure"
        r"|misaligned address|illegal instruction was encountered",
        "a GPU kernel failed: a fault of the kernel, or of the GPU, for which "
        "`dmesg | grep -i xid` has a line. Run again, which resumes from the last checkpoint; if "
        "it comes back, runtime.compile off leaves out the compiled kernels, and "
        "CUDA_LAUNCH_BLOCKING=1 names the one at fault",
    ),
    _Known(
        r"Connection closed by peer|Connection reset by peer|Application timeout caused pair"
        r"|remote process exited or there was a network error|ncclRemoteError",
        "another process of the run has ended, or the network between them broke",
        is_cause=False,
    ),
    _Known(
        r"\d+/\d+ clients joined|connectFullMesh failed|wait timeout after \d+ms",
        "the processes of the run did not all find each other in time; check that the others "
        "started and that the network lets them connect (NCCL_SOCKET_IFNAME or "
        "GLOO_SOCKET_IFNAME names the interface)",
    ),
    _Known(
        r"NCCL error in:|NCCL Error \d|nccl(?:Unhandled\w+|System|Internal|Invalid\w+)Error"
        r"|run with NCCL_DEBUG=INFO",
        "NCCL, which GPUs talk to each other by, failed; NCCL_DEBUG=INFO makes it say why in the "
        "log. The usual causes: too little /dev/shm (a container's --shm-size), a wrong network "
        "interface (NCCL_SOCKET_IFNAME), or another NCCL version on another node",
    ),
)
"""In this order: what NCCL reports may be CUDA's own error."""


def describe_device_fault(error: BaseException) -> DeviceFault | None:
    """What the device did, with torch's own first line; None when `error` has another cause."""
    if isinstance(error, MemoryError):
        return DeviceFault(f"the host is out of memory; {MEMORY_REMEDY}")
    for cause in causes_of(error):
        # An unknown error of the user's own code may quote anything: only libraries' are read.
        if isinstance(cause, RuntimeError | MemoryError):
            text = str(cause)
            if found := find_fault(text):
                return DeviceFault(f"{found.message} ({_first_line(text)})", found.is_cause)
    return None


def find_fault(text: str) -> DeviceFault | None:
    """The failure that an error's text or the end of a log speaks of."""
    if hung := _TIMEOUT_MS.search(text):
        return DeviceFault(_describe_timeout(hung))
    known = next((known for known in _KNOWN if re.search(known.pattern, text)), None)
    return None if known is None else DeviceFault(known.message, known.is_cause)


def fault_in_log(text: str) -> DeviceFault | None:
    """The failure that a process printed before it died.

    A log holds more than errors, so the fault must stand in one of its last lines, as an error.
    """
    lines = text.splitlines()[-_LOG_LINES:]
    return find_fault("\n".join(line for line in lines if _LOOKS_LIKE_AN_ERROR.search(line)))


def waiting_ranks(text: str) -> set[int]:
    """The ranks whose NCCL watchdog says that they waited in vain for others."""
    return {int(rank) for rank in _WATCHDOG_RANK.findall(text)}


def is_timeout(message: str) -> bool:
    """True if this module's message speaks of a collective operation that hung."""
    return _LONGER_TIMEOUT in message


_LONGER_TIMEOUT = "raise runtime.collective_timeout if such a wait is meant to be"
_LOG_LINES = 400
"""NCCL's watchdog prints a C++ stack trace of each rank after its message."""
_LOOKS_LIKE_AN_ERROR = re.compile(r"error|what\(\)|timeout|out of memory|Xid", re.IGNORECASE)
_WATCHDOG_RANK = re.compile(r"\[Rank (\d+)\] Watchdog caught collective operation timeout")


def _describe_timeout(match: re.Match[str]) -> str:
    waited_s = int(match["nccl"] or match["gloo"]) / 1000
    operation = f" ({match['operation'].lower()})" if match["operation"] else ""
    return (
        f"a collective operation{operation} waited {waited_s:g} s in vain for another process, "
        f"which hangs, has died, or is that much slower; {_LONGER_TIMEOUT}"
    )


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"


_LONGEST = 300
