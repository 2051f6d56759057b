"""Host memory that snapshots are copied into: one block, of exactly their size, used over and over.

Copies from a GPU are fast, and go on beside its work, only into page-locked memory. torch's own
allocator of such memory rounds every tensor up to a power of two and keeps it: the 80.9 GB of a
model of 7 B become 112.7. So here one block is mapped and registered with CUDA as it is.
"""

import logging
import mmap
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress

import torch

from continuum.formatting import format_bytes

_log = logging.getLogger(__name__)

ALIGNMENT = 256
"""Bytes; where each tensor begins, as torch's allocators have it on a GPU."""
PORTABLE = 1
"""cudaHostRegisterPortable: page-locked for every device of the process."""


class HostBuffer:
    """Copies tensors to the host; the copies are valid until the next `begin`."""

    def __init__(self, warn: Callable[[str], None] = _log.warning) -> None:
        """Hold nothing yet.

        Args:
            warn: Told, once, that memory for copies from a GPU cannot be page-locked.
        """
        self._warn: Callable[[str], None] | None = warn
        self._block: torch.UntypedStorage | None = None
        self._offset = 0
        self._unpin: weakref.finalize[..., HostBuffer] | None = None
        self.is_pinned = False
        """Whether the block is page-locked; never before something came from a GPU."""

    @property
    def num_bytes(self) -> int:
        """Size of the block."""
        return 0 if self._block is None else self._block.nbytes()

    def begin(self, tensors: Iterable[torch.Tensor]) -> None:
        """Make room for copies of these tensors, which replace all earlier ones."""
        tensors = list(tensors)
        needed = sum(_aligned(tensor.nbytes) for tensor in tensors)
        if needed > self.num_bytes:
            self._release()
            self._block = _mapped(needed)
            if any(tensor.device.type == "cuda" for tensor in tensors):
                self._pin(self._block)
        self._offset = 0

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """A contiguous copy, with a storage of its own; from a GPU it is only begun."""
        if not tensor.nbytes:
            return torch.empty(tensor.shape, dtype=tensor.dtype)
        assert self._block is not None, "begin comes first"
        start, self._offset = self._offset, self._offset + _aligned(tensor.nbytes)
        assert self._offset <= self.num_bytes, "more is copied than was announced"
        # Not a view of the whole block, which torch.save would write for each tensor.
        part = self._block[start : start + tensor.nbytes]
        host = torch.empty(0, dtype=tensor.dtype).set_(part, 0, tensor.shape)  # type: ignore[call-overload]
        copied: torch.Tensor = host.copy_(tensor.detach(), non_blocking=self.is_pinned)
        return copied

    def _pin(self, block: torch.UntypedStorage) -> None:
        """Page-lock the block; where the system refuses, copies wait for the GPU instead."""
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        address = block.data_ptr()
        status = int(runtime.cudaHostRegister(address, block.nbytes(), PORTABLE))
        self.is_pinned = status == 0
        if self.is_pinned:
            self._unpin = weakref.finalize(self, runtime.cudaHostUnregister, address)
            return
        with suppress(RuntimeError, AssertionError):
            torch.zeros(1, device="cuda")  # takes the error, which the next kernel else fails with
        if self._warn is not None:
            self._warn(
                f"{format_bytes(block.nbytes())} of host memory for checkpoints cannot be "
                f"page-locked (CUDA error {status}), so each save keeps the GPU waiting; check the "
                "free memory, and the limit of locked memory (ulimit -l)"
            )
            self._warn = None

    def _release(self) -> None:
        if self._unpin is not None:
            self._unpin()
        self._block, self._unpin, self.is_pinned = None, None, False


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def _mapped(num_bytes: int) -> torch.UntypedStorage:
    """Memory of whole pages, which go back to the system as soon as nothing uses them."""
    return torch.frombuffer(mmap.mmap(-1, num_bytes), dtype=torch.uint8).untyped_storage()
