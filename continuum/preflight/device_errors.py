"""Explain failures of a GPU and of the libraries that drive it.

torch has exception types for few of these failures. The others are RuntimeErrors with the text of
CUDA, cuBLAS, NCCL or gloo, wrapped by whatever code was running, or only lines in the log of a
process that NCCL's watchdog has aborted. So they are recognized by their text, and the traceback
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
"""From torch, and from CUDA's errors 35, 803 and 222."""
_TIMEOUT_MS = re.compile(
    r"Watchdog caught collective operation timeout: \w+\(.*?OpType=(?P<operation>\w+)"
    r".*?Timeout\(ms\)=(?P<nccl>\d+)|Timed out waiting (?P<gloo>\d+)ms for (?:recv|send) operation"
)
_LONGER_TIMEOUT = "raise runtime.collective_timeout if such a wait is expected"
_LOG_LINES = 400
"""At the end of a log: NCCL's watchdog prints a C++ stack trace of each rank."""
_LOOKS_LIKE_AN_ERROR = re.compile(r"error|what\(\)|timeout|out of memory|Xid", re.IGNORECASE)
_WATCHDOG_RANK = re.compile(r"\[Rank (\d+)\] Watchdog caught collective operation timeout")
_LONGEST = 300


@dataclass(frozen=True)
class DeviceFault:
    """A failure and what to do about it."""

    message: str
    is_cause: bool = True
    """False if the process only lost another one, which knows why."""
    pattern: str = ""
    """Of the errors that it explains."""


_KNOWN = (
    DeviceFault(
        f"the GPU is out of memory; {MEMORY_REMEDY}. PYTORCH_ALLOC_CONF=expandable_segments:True "
        "helps if much is reserved but unallocated, and nvidia-smi shows what else uses the GPU",
        pattern=(
            r"(?:CUDA|HIP|XPU) out of memory|CUDA error: out of memory|Cuda failure 2 "
            r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
        ),
    ),
    DeviceFault(
        f"the host is out of memory; {MEMORY_REMEDY}",
        pattern=r"DefaultCPUAllocator: (?:can't allocate|not enough) memory",
    ),
    DeviceFault(
        "the GPU reports a hardware fault; `nvidia-smi -q -d ECC,PAGE_RETIREMENT` and "
        "`dmesg | grep -i xid` show it. Reset or replace the GPU, or exclude it with "
        "CUDA_VISIBLE_DEVICES, and run again: the next run resumes from the last checkpoint",
        pattern=(
            r"uncorrectable ECC error|uncorrectable NVLink error|\bXid \(|fallen off the bus"
            r"|GPU is lost|hardware stack error|peer GPU memory over nvlink or a hardware error"
            r"|Unable to determine the device handle"
        ),
    ),
    DeviceFault(
        "the NVIDIA driver is too old for this build of torch; update the driver, or install a "
        "torch that is built for an older CUDA (https://pytorch.org/get-started/previous-versions)",
        pattern=DRIVER_TOO_OLD,
    ),
    DeviceFault(
        "this build of torch has no code for this GPU; install a torch that supports its compute "
        "capability (`python -c 'import torch; print(torch.cuda.get_arch_list())'` lists them)",
        pattern=r"no kernel image is available for execution on the device",
    ),
    DeviceFault(
        "torch finds no GPU; check the driver with nvidia-smi and check CUDA_VISIBLE_DEVICES, or "
        "set runtime.accelerator to cpu",
        pattern=(
            r"no NVIDIA driver on your system|no CUDA-capable device is detected"
            r"|No CUDA GPUs are available"
        ),
    ),
    DeviceFault(
        "another process holds the GPU exclusively; nvidia-smi shows it",
        pattern=r"CUDA-capable device\(s\) is/are busy or unavailable",
    ),
    DeviceFault(
        "CUDA is not ready on this machine: on systems with NVSwitch the service "
        "nvidia-fabricmanager must run, in the driver's own version",
        pattern=r"CUDA error: system not yet initialized",
    ),
    DeviceFault(
        "a GPU kernel got an invalid input, mostly an index out of range such as a token id "
        "outside the vocabulary; `continuum verify` checks the dataset's files, and a run with "
        "CUDA_LAUNCH_BLOCKING=1 names the operation",
        pattern=r"device-side assert triggered",
    ),
    DeviceFault(
        "the kernel of runtime.attention cannot compute this model's attention on this device or "
        "in this precision (cudnn and flash take no fp32); set runtime.attention to auto",
        pattern=r"No available kernel\. Aborting execution",
    ),
    DeviceFault(
        "a GPU kernel failed: a fault of the kernel, or of the GPU, for which "
        "`dmesg | grep -i xid` has a line. Run again, which resumes from the last checkpoint; if "
        "it comes back, runtime.compile off leaves out the compiled kernels, and "
        "CUDA_LAUNCH_BLOCKING=1 names the one at fault",
        pattern=(
            r"illegal memory access was encountered|unspecified launch failure"
            r"|misaligned address|illegal instruction was encountered"
        ),
    ),
    DeviceFault(
        "another process of the run has ended, or the network between them broke",
        is_cause=False,
        pattern=(
            r"Connection closed by peer|Connection reset by peer|Application timeout caused pair"
            r"|remote process exited or there was a network error|ncclRemoteError"
        ),
    ),
    DeviceFault(
        "the processes of the run did not all find each other in time; check that the others "
        "started and that the network lets them connect (NCCL_SOCKET_IFNAME or "
        "GLOO_SOCKET_IFNAME names the interface)",
        pattern=r"\d+/\d+ clients joined|connectFullMesh failed|wait timeout after \d+ms",
    ),
    DeviceFault(
        "NCCL, the communication library of GPUs, failed; NCCL_DEBUG=INFO makes it log why. "
        "Usual causes: too little /dev/shm (a container's --shm-size), a wrong network "
        "interface (NCCL_SOCKET_IFNAME), or another NCCL version on another node",
        pattern=(
            r"NCCL error in:|NCCL Error \d|nccl(?:Unhandled\w+|System|Internal|Invalid\w+)Error"
            r"|run with NCCL_DEBUG=INFO"
        ),
    ),
)
"""The first match counts, since what NCCL reports may be CUDA's own error."""


def describe_device_fault(error: BaseException) -> DeviceFault | None:
    """The device's failure, with the first line of torch's error; None if `error` is not one."""
    if isinstance(error, MemoryError):
        return DeviceFault(f"the host is out of memory; {MEMORY_REMEDY}")
    for cause in causes_of(error):
        # Errors of user code may quote anything; libraries raise these types.
        if isinstance(cause, RuntimeError | MemoryError):
            text = str(cause)
            if found := find_fault(text):
                return DeviceFault(f"{found.message} ({_first_line(text)})", found.is_cause)
    return None


def find_fault(text: str) -> DeviceFault | None:
    """The failure in an error's text or at the end of a log."""
    if hung := _TIMEOUT_MS.search(text):
        return DeviceFault(_describe_timeout(hung))
    return next((known for known in _KNOWN if re.search(known.pattern, text)), None)


def fault_in_log(text: str) -> DeviceFault | None:
    """The failure that a process logged before it died: an error in one of its last lines."""
    lines = text.splitlines()[-_LOG_LINES:]
    return find_fault("\n".join(line for line in lines if _LOOKS_LIKE_AN_ERROR.search(line)))


def waiting_ranks(text: str) -> set[int]:
    """The ranks whose NCCL watchdog timed out waiting for others."""
    return {int(rank) for rank in _WATCHDOG_RANK.findall(text)}


def is_timeout(message: str) -> bool:
    """Whether a message of this module is about a collective operation that timed out."""
    return _LONGER_TIMEOUT in message


def _describe_timeout(match: re.Match[str]) -> str:
    waited_s = int(match["nccl"] or match["gloo"]) / 1000
    operation = f" ({match['operation'].lower()})" if match["operation"] else ""
    return (
        f"a collective operation{operation} timed out after {waited_s:g} s waiting for another "
        f"process, which hangs, has died, or is too slow; {_LONGER_TIMEOUT}"
    )


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
