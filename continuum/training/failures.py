"""A device's failure in the middle of training: which process, in which step, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning import Fabric

from continuum.device_faults import describe_device_fault
from continuum.errors import StageFailedError
from continuum.training.state import TrainingState


@contextmanager
def named_device_faults(fabric: Fabric, state: TrainingState) -> Iterator[None]:
    """Give what the device fails with its words, and the place where it happened.

    Raises:
        StageFailedError: the device, or a library that drives it, failed in this process. What a
            process fails with because it lost another one passes through: the other knows why.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        fault = describe_device_fault(error)
        if fault is None or not fault.is_cause:
            raise
        size = fabric.world_size
        who = f"rank {fabric.global_rank} of {size}, " if size > 1 else ""
        raise StageFailedError(f"{who}in step {state.step + 1:,}: {fault.message}") from error
