"""What the last bit of a result depends on besides spec and data: libraries, processor, threads.

Every checkpoint records it, and a recovery compares: `exact` means that none of it has changed.
"""

import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
import torch.distributed as dist

from continuum.runs.installed import installed_version, source_digest

PACKAGES = ("torch", "litgpt", "lightning", "litdata", "numpy", "triton", "continuum")
"""Those whose code determines results."""
VARIABLES = re.compile(
    r"(?:TORCH|TORCHINDUCTOR|PYTORCH|ATEN|OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|GOTO|VECLIB|DNNL|ONEDNN|NPY"
    r"|CUBLAS|CUBLASLT|CUDNN|CUDA|NVIDIA|NCCL|GLOO|TRITON)_\w+"
)
"""Environment variables of numerical libraries."""
IRRELEVANT = re.compile(
    r"\w*(?:_DIR|_HOME|_PATH|_ROOT|_LOGS?|_DEBUG\w*|_LOG_LEVEL|_VERBOSE|_SOCKET_IFNAME|_DEVICES"
    r"|_DEVICE_ORDER|_VERSION|_VISIBLE\w*|_DRIVER_CAPABILITIES|_REQUIRE_CUDA|_FILE|_CACHE\w*"
    r"|_SHOW_CPP_STACKTRACES)"
)
"""Those of them that set paths, select devices, or control output."""
UNSET = "unset"


def numerics(kind: str, version: int) -> dict[str, Any]:
    """The record of this process, or of all processes of the group if they differ.

    Args:
        kind: Of the stage.
        version: Of the kind's code.
    """
    own = {
        "versions": _versions(),
        "continuum_source": source_digest(),
        "kinds": {kind: version},
        "libraries": _libraries(),
        "processor": _processor(),
        "threads": _threads(),
        "settings": _settings(),
        "environment": _environment(),
        "cuda": _cuda(),
    }
    if not dist.is_available() or not dist.is_initialized():
        return own
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    return _joined(everyone)


def changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Iterator[str]:
    """Describe what has changed since the previous attempt; None if that has no record."""
    if before is None:
        yield "versions, libraries, processor and environment of the previous attempt are unknown"
        return
    old, new = dict(_flat(before)), dict(_flat(now))
    for key in sorted(old.keys() | new.keys()):
        section, _, name = key.partition(".")
        # A missing variable was not set; other missing facts were not recorded.
        missing = UNSET if section in ("environment", "cuda") else "not known"
        was, is_now = old.get(key, missing), new.get(key, missing)
        if was != is_now:
            label = name if section == "environment" else key.replace("_", " ").replace(".", ": ")
            yield f"{label} was {was} and is {is_now}"


def _versions() -> dict[str, str]:
    found = {name: installed_version(name) or "not installed" for name in PACKAGES}
    return {"python": platform.python_version(), **found, "torch": str(torch.__version__)}


def _libraries() -> dict[str, str]:
    """The linear algebra libraries of torch and NumPy, as these report them."""
    built = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    named = ("Intel(R)", "OpenMP", "OpenBLAS", "LAPACK")
    settings = dict(re.findall(r"\b(BLAS_INFO|LAPACK_INFO|COMMIT_SHA)=([^,\s]+)", " ".join(built)))
    dependencies: Any = numpy.show_config(mode="dicts")
    blas = dependencies.get("Build Dependencies", {}).get("blas", {})
    return {
        "torch": "; ".join(line for line in built if line.startswith(named)),
        **{f"torch_{key.lower()}": value for key, value in settings.items()},
        "numpy": " ".join(
            str(blas[key]) for key in ("name", "version", "openblas configuration") if key in blas
        ),
        "libc": " ".join(platform.libc_ver()),
    }


def _processor() -> dict[str, str]:
    return {
        "model": _processor_model(),
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _processor_model(info: Path = Path("/proc/cpuinfo")) -> str:
    """The model's name, or on ARM its numbers; if not on Linux, what Python reports."""
    try:
        text = info.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    found = {key.strip(): value.strip() for key, _, value in pairs}
    keys = ("model name",) if "model name" in found else ("CPU implementer", "CPU part")
    return " ".join(found[key] for key in keys if key in found) or platform.processor()


def _threads() -> dict[str, int]:
    return {"within": torch.get_num_threads(), "between": torch.get_num_interop_threads()}


def _settings() -> dict[str, Any]:
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "mkldnn": torch.backends.mkldnn.enabled,
        "flush_denormal": float(torch.tensor(1e-45) * 1.0) == 0.0,
    }


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if VARIABLES.fullmatch(name) and not IRRELEVANT.fullmatch(name)
    }


def _cuda() -> dict[str, Any]:
    """Facts about CUDA if this process trains on it: an unused driver changes nothing."""
    cuda: Any = torch.cuda
    cudnn: Any = torch.backends.cudnn
    if not (cuda.is_available() and cuda.is_initialized()):
        return {}
    properties = cuda.get_device_properties(cuda.current_device())
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
        "nccl": ".".join(map(str, cuda.nccl.version())) if dist.is_nccl_available() else None,
    }


def _driver(version: Path = Path("/proc/driver/nvidia/version")) -> str:
    try:
        found = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", version.read_text(encoding="utf-8"))
    except OSError:
        return "not known"
    return found[0] if found else "not known"


def _joined(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The record of all processes; a fact in which they differ becomes a sorted list."""
    first, *others = records
    if all(other == first for other in others):
        return first
    joined: dict[str, Any] = {}
    for key in sorted({key for record in records for key in record}):
        values = [record.get(key, UNSET) for record in records]
        if all(isinstance(value, dict) for value in values):
            joined[key] = _joined(values)
        else:
            different = sorted({str(value) for value in values})
            joined[key] = different if len(different) > 1 else values[0]
    return joined


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
