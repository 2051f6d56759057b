"""Snapshots in one block of host memory: the same bytes as others, and no more room."""

import io
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from continuum.training.snapshot import ALIGNMENT, HostBuffer, tensors_in
from continuum.training.state import TrainingState
from tests.training.samples import cpu_fabric, make_state, take_steps


def saved(snapshot: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(snapshot, file)
    return file.getvalue()


@pytest.fixture
def state() -> TrainingState:
    fabric = cpu_fabric()
    found = make_state(fabric)
    take_steps(fabric, found, 2)
    return found


def test_a_snapshot_in_a_buffer_is_written_as_any_other(state: TrainingState) -> None:
    assert saved(state.snapshot(buffer=HostBuffer())) == saved(state.snapshot())


def test_training_does_not_change_it(state: TrainingState) -> None:
    kept = state.snapshot(buffer=HostBuffer())
    before = saved(kept)
    take_steps(cpu_fabric(), state, 1)
    assert saved(kept) == before


def test_the_next_snapshot_takes_the_same_block_of_exactly_its_size(state: TrainingState) -> None:
    buffer = HostBuffer()
    first = state.snapshot(buffer=buffer)
    size = buffer.num_bytes
    flat = [t for t in tensors_in(first) if t.nbytes]
    assert sum(t.nbytes for t in flat) <= size < sum(t.nbytes for t in flat) + ALIGNMENT * len(flat)
    place = min(t.data_ptr() for t in flat)
    second = state.snapshot(buffer=buffer)
    assert min(t.data_ptr() for t in tensors_in(second) if t.nbytes) == place
    assert buffer.num_bytes == size


def test_a_block_that_is_too_small_is_replaced_by_a_larger_one() -> None:
    buffer = HostBuffer()
    small, large = torch.arange(3), torch.arange(1000.0).reshape(10, 100).t()
    buffer.begin([small])
    assert torch.equal(buffer.copy(small), small)
    buffer.begin([large, small])
    copied = buffer.copy(large)
    assert torch.equal(copied, large)
    assert copied.is_contiguous()
    assert torch.equal(buffer.copy(small), small)
    assert not buffer.is_pinned
    with pytest.raises(AssertionError, match=r"begin\(\) was given"):
        buffer.copy(large)


class Refusing:
    """CUDA's runtime on a machine that locks no more memory."""

    def cudaHostRegister(self, *_: int) -> int:  # noqa: N802
        return 2  # cudaErrorMemoryAllocation


def test_memory_that_cannot_be_page_locked_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "cudart", Refusing)
    told: list[str] = []
    buffer = HostBuffer(told.append)
    with FakeTensorMode():
        small, large = (torch.empty(size, device="cuda") for size in (1000, 2000))
    buffer.begin([small])
    buffer.begin([large])
    assert not buffer.is_pinned
    assert buffer.num_bytes >= large.nbytes
    (message,) = told
    assert message.startswith("cannot page-lock 4.1 kB of host memory for checkpoints")


@pytest.mark.gpu
def test_a_refusal_to_page_lock_fails_no_later_kernel() -> None:
    told: list[str] = []
    buffer = HostBuffer(told.append)
    tensor = torch.ones(1000, device="cuda")
    buffer.begin([tensor])
    assert buffer._block is not None
    buffer._pin(buffer._block)  # which is locked already
    assert len(told) == 1
    assert torch.equal(buffer.copy(tensor + 1).cpu(), torch.full((1000,), 2.0))


@pytest.mark.gpu
def test_page_locked_memory_is_registered_at_its_exact_size() -> None:
    buffer = HostBuffer()
    tensors = [torch.randn(1000, 1001, device="cuda") for _ in range(3)]
    before = torch.cuda.host_memory_stats().get("allocated_bytes.current", 0)
    buffer.begin(tensors)
    copies = [buffer.copy(tensor) for tensor in tensors]
    torch.cuda.synchronize()
    assert buffer.is_pinned
    assert all(copied.is_pinned() for copied in copies)
    assert buffer.num_bytes < sum(t.nbytes for t in tensors) + len(tensors) * ALIGNMENT
    assert torch.cuda.host_memory_stats().get("allocated_bytes.current", 0) == before
    assert all(torch.equal(c, t.cpu()) for c, t in zip(copies, tensors, strict=True))
