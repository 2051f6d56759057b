from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from continuum.training.rank_sync import MAX_STRIDE, SUMMED_AT_ONCE, checksum, stride_of


@pytest.mark.parametrize(
    ("step_s", "stride"), [(0.0, MAX_STRIDE), (0.01, MAX_STRIDE), (0.3, 3), (0.9, 1), (40.0, 1)]
)
def test_several_processes_agree_about_once_a_second_however_long_a_step_takes(
    step_s: float, stride: int
) -> None:
    assert stride_of(step_s) == stride


class Made(TorchDispatchMode):
    """The most bytes of any tensor that is made below it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        storages = {it.untyped_storage().data_ptr() for it in args if torch.is_tensor(it)}
        if torch.is_tensor(out) and out.untyped_storage().data_ptr() not in storages:
            self.most_bytes = max(self.most_bytes, out.numel() * out.element_size())
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_single_bit_anywhere_changes_the_checksum(dtype: torch.dtype) -> None:
    weights = torch.randn(SUMMED_AT_ONCE + 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = checksum(weights)
    assert torch.equal(checksum(weights.clone()), before)
    for place in (0, SUMMED_AT_ONCE + 4):
        other = weights.clone()
        other[place] = torch.nextafter(other[place], torch.tensor(9.0, dtype=dtype))
        assert not torch.equal(checksum(other), before)


def test_the_order_of_adding_changes_nothing_and_nan_is_equal_to_itself() -> None:
    weights = torch.tensor([1.0, torch.nan, -3e38, 1e-45])
    assert torch.equal(checksum(weights), checksum(weights.flip(0)))


def test_no_copy_of_the_weights_is_made() -> None:
    weights = torch.zeros(4 * SUMMED_AT_ONCE, 2)
    with Made() as made:
        checksum(weights)
    assert made.most_bytes <= 8 * SUMMED_AT_ONCE
