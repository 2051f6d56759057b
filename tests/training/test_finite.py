"""A loss that is infinite is no more a number than NaN."""

import pytest
import torch

from continuum.training.data import Blocks
from continuum.training.divergence import DivergedError, finite
from tests.training.loops import make_task


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_loss_that_is_no_number_ends_the_run(value: float, blocks: Blocks) -> None:
    data = make_task(blocks).data
    assert finite(torch.tensor(2.5), data, step=3) == 2.5
    with pytest.raises(DivergedError, match=f"the loss is {value} at step 3"):
        finite(torch.tensor(value), data, step=3)
