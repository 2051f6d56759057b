import pytest

from continuum.training.rank_sync import MAX_STRIDE, stride_of


@pytest.mark.parametrize(
    ("step_s", "stride"), [(0.0, MAX_STRIDE), (0.01, MAX_STRIDE), (0.3, 3), (0.9, 1), (40.0, 1)]
)
def test_several_processes_agree_about_once_a_second_however_long_a_step_takes(
    step_s: float, stride: int
) -> None:
    assert stride_of(step_s) == stride
