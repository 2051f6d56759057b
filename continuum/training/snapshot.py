"""Copy the training state to the host, where training cannot change it.

Copies from a GPU are fast, and overlap with its work, only into page-locked memory. torch's own
allocator for such memory rounds every tensor up to a power of two and keeps it: the 80.9 GB of a
model of 7 B become 112.7. So a `HostBuffer` maps one block of exactly the size of a snapshot,
registers it with CUDA, and reuses it.
"""

import logging
import mmap
import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from continuum.formatting import format_bytes

_log = logging.getLogger(__name__)

ALIGNMENT = 256
"""Bytes; of each tensor's start, as in torch's GPU allocators."""
PORTABLE = 1
"""cudaHostRegisterPortable: page-locked for every device of the process."""
HostCopy = Callable[[torch.Tensor], torch.Tensor]
"""Copies a tensor to the host, where training cannot change it."""


class HostBuffer:
    """Copies tensors to the host; the copies are valid until the next `begin`."""

    def __init__(self, warn: Callable[[str], None] = _log.warning) -> None:
        """Allocate nothing yet.

        Args:
            warn: Called once if memory for copies from a GPU cannot be page-locked.
        """
        self._warn: Callable[[str], None] | None = warn
        self._block: torch.UntypedStorage | None = None
        self._offset = 0
        self._unpin: weakref.finalize[..., HostBuffer] | None = None
        self.is_pinned = False
        """Whether the block is page-locked; only once something was copied from a GPU."""

    @property
    def num_bytes(self) -> int:
        """Size of the block."""
        return 0 if self._block is None else self._block.nbytes()

    def begin(self, tensors: Iterable[torch.Tensor]) -> None:
        """Make room for copies of these tensors, overwriting all earlier copies."""
        tensors = list(tensors)
        needed = sum(_aligned(tensor.nbytes) for tensor in tensors)
        if needed > self.num_bytes:
            self._release()
            self._block = _mapped(needed)
            if any(tensor.device.type == "cuda" for tensor in tensors):
                self._pin(self._block)
        self._offset = 0

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """A contiguous copy with a storage of its own; from a GPU the copy is asynchronous."""
        if not tensor.nbytes:
            return torch.empty(tensor.shape, dtype=tensor.dtype)
        assert self._block is not None, "begin comes first"
        start, self._offset = self._offset, self._offset + _aligned(tensor.nbytes)
        assert self._offset <= self.num_bytes, "more is copied than begin() was given"
        # Not a view of the block, which torch.save would write in full for each tensor.
        part = self._block[start : start + tensor.nbytes]
        host = torch.empty(0, dtype=tensor.dtype).set_(part, 0, tensor.shape)  # type: ignore[call-overload]
        copied: torch.Tensor = host.copy_(tensor.detach(), non_blocking=self.is_pinned)
        return copied

    def _pin(self, block: torch.UntypedStorage) -> None:
        """Page-lock the block; if the system refuses, copies are synchronous."""
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        address = block.data_ptr()
        status = int(runtime.cudaHostRegister(address, block.nbytes(), PORTABLE))
        self.is_pinned = status == 0
        if self.is_pinned:
            self._unpin = weakref.finalize(self, runtime.cudaHostUnregister, address)
            return
        with suppress(RuntimeError, AssertionError):
            torch.zeros(1, device="cuda")  # clears the error, or the next kernel would raise it
        if self._warn is not None:
            self._warn(
                f"cannot page-lock {format_bytes(block.nbytes())} of host memory for checkpoints "
                f"(CUDA error {status}), so the GPU waits during each save; check the free memory "
                "and the limit of locked memory (ulimit -l)"
            )
            self._warn = None

    def _release(self) -> None:
        if self._unpin is not None:
            self._unpin()
        self._block, self._unpin, self.is_pinned = None, None, False


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def _mapped(num_bytes: int) -> torch.UntypedStorage:
    """Mapped pages, which are returned to the system as soon as nothing uses them."""
    return torch.frombuffer(mmap.mmap(-1, num_bytes), dtype=torch.uint8).untyped_storage()


def canonical(value: Any, copy: HostCopy = torch.Tensor.clone) -> Any:
    """The same value with new containers, interned strings and copied tensors.

    Pickle writes a second occurrence of an object as a back reference, so equal states whose
    strings are shared differently (in memory, or loaded from a file) would differ in their bytes.
    """
    if isinstance(value, torch.Tensor):
        return copy(value)
    if isinstance(value, dict):
        return {canonical(key): canonical(item, copy) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(canonical(item, copy) for item in value)
    return sys.intern(value) if type(value) is str else value


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors in nested containers, in the order in which `canonical` copies them."""
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    is_nested = isinstance(value, (dict, list, tuple))
    return [tensor for item in items for tensor in tensors_in(item)] if is_nested else []


def sorted_state(value: Any) -> Any:
    """The canonical form of an optimizer's state, which otherwise depends on how it was loaded.

    Mappings are sorted by key; a sequence of numbers (`betas`) is a tuple.
    """
    if isinstance(value, dict):
        return {key: sorted_state(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        is_numbers = all(isinstance(item, (int, float)) for item in value)
        return tuple(value) if is_numbers else [sorted_state(item) for item in value]
    return value


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a sharded tensor; any other tensor unchanged."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def cloned(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the host."""
    if tensor.device.type == "cpu":
        return tensor.detach().clone(memory_format=torch.contiguous_format)
    return tensor.detach().cpu().contiguous()


def copy_if_live(live: set[int]) -> HostCopy:
    """A `HostCopy` that copies only what training still uses, not what was gathered for it.

    Args:
        live: The addresses of the memory that training uses.
    """

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        is_full = tensor.is_contiguous() and storage.nbytes() == tensor.nbytes
        is_separate = tensor.device.type == "cpu" and storage.data_ptr() not in live
        return tensor.detach() if is_full and is_separate else cloned(tensor)

    return copy
