import itertools
import math
from typing import Any

import pytest
from litgpt.pretrain import get_lr

from continuum.experiment.recipe import Recipe, ResumeSchedule, Schedule
from continuum.training.schedule import LearningRate, learning_rate
from tests.training.samples import make_recipe

STEPS = 100
PER_STEP = 32
PEAK = 1e-2


def rates(fields: dict[str, Any]) -> list[float]:
    """The rate of each of 100 steps, as the loop asks for them."""
    rate = make_rate(fields)
    return [rate.at(step * PER_STEP) for step in range(STEPS)]


def make_rate(fields: dict[str, Any]) -> LearningRate:
    recipe = make_recipe(schedule=Schedule.model_validate(fields), max_steps=STEPS)
    return learning_rate(recipe, STEPS)


def extended(fields: dict[str, Any], start_lr: float, start_step: int = 60) -> list[float]:
    """The rates of the steps after the parent's; the recipe takes the way to a worker and back."""
    recipe = make_recipe(schedule=ResumeSchedule.model_validate(fields), max_steps=STEPS)
    sent = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    received = Recipe.model_validate(sent, strict=False)
    rate = learning_rate(received, STEPS, start_step=start_step, start_lr=start_lr)
    return [rate.at(step * PER_STEP) for step in range(start_step, STEPS)]


def rise(num_steps: int, low: float = 0.0, high: float = PEAK) -> list[float]:
    """A warm-up of so many steps, neither its beginning nor the peak among them."""
    return [low + (high - low) * step / (num_steps + 1) for step in range(1, num_steps + 1)]


@pytest.mark.parametrize("warmup", [0, 1, 10, 99])
def test_cosine_is_litgpts_of_an_iteration_later(warmup: int) -> None:
    found = rates({"kind": "cosine", "warmup": warmup, "min_lr": 1e-3})
    expected = [get_lr(PEAK, step + 1, warmup + 1, STEPS + 1, 1e-3) for step in range(STEPS)]
    assert found == pytest.approx(expected, rel=0, abs=1e-15)


@pytest.mark.parametrize(
    "warmup", [20, "20%", {"tokens": 20 * PER_STEP}, {"tokens": 20 * PER_STEP - 1}], ids=str
)
def test_a_warmup_may_be_steps_a_share_or_tokens(warmup: Any) -> None:
    found = rates({"kind": "constant", "warmup": warmup})
    assert found == pytest.approx(rise(20) + [PEAK] * 80, abs=1e-15)


def test_linear_falls_in_a_line_to_min_lr() -> None:
    found = rates({"kind": "linear", "warmup": 10, "min_lr": 1e-3})[10:]
    expected = [PEAK + (1e-3 - PEAK) * step / 90 for step in range(90)]
    assert found == pytest.approx(expected, abs=1e-15)


def test_wsd_holds_and_then_falls_in_a_line() -> None:
    found = rates({"kind": "wsd", "warmup": 10, "decay": "25%", "min_lr": 0.0})
    assert found[:10] == pytest.approx(rise(10), abs=1e-15)
    assert found[10:76] == [PEAK] * 66
    assert found[75:] == pytest.approx([PEAK * (1 - step / 25) for step in range(25)], abs=1e-15)


def test_inverse_sqrt_falls_with_the_root_of_the_tokens_down_to_its_floor() -> None:
    found = rates({"kind": "inverse_sqrt", "warmup": 4, "min_lr": "25%"})
    expected = [PEAK * max(0.25, math.sqrt(4 / step)) for step in range(4, STEPS)]
    assert found[4:] == pytest.approx(expected, abs=1e-15)
    assert found[:4] == pytest.approx(rise(4), abs=1e-15)


def test_inverse_sqrt_without_a_warmup_falls_from_its_first_step() -> None:
    found = rates({"kind": "inverse_sqrt", "warmup": 0, "min_lr": 0.0})
    expected = [PEAK / math.sqrt(max(1, step)) for step in range(STEPS)]
    assert found == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_the_rate_at_the_end_and_beyond_is_min_lr(kind: str) -> None:
    rate = make_rate({"kind": kind, "warmup": 10, "min_lr": "10%"})
    assert rate.at(STEPS * PER_STEP) == pytest.approx(1e-3, rel=1e-12)
    assert rate.at(10**9) == 1e-3


KINDS: list[dict[str, Any]] = [
    {"kind": "cosine"},
    {"kind": "linear"},
    {"kind": "constant"},
    {"kind": "wsd", "decay": "50%"},
    {"kind": "inverse_sqrt", "warmup": 30},
]


@pytest.mark.parametrize("schedule", KINDS, ids=lambda schedule: str(schedule["kind"]))
def test_no_schedule_jumps(schedule: dict[str, Any]) -> None:
    found = rates({"warmup": 20, "min_lr": 0.0, **schedule})
    steepest = PEAK / 20
    assert max(abs(b - a) for a, b in itertools.pairwise(found)) <= steepest * (1 + 1e-9)


@pytest.mark.parametrize("num_steps", [1, 2, STEPS])
@pytest.mark.parametrize("warmup", [0, "5%", "100%"], ids=str)
@pytest.mark.parametrize("schedule", [*KINDS[:3], {"kind": "wsd", "decay": 0}], ids=str)
def test_every_step_learns(schedule: dict[str, Any], warmup: Any, num_steps: int) -> None:
    floor = {} if schedule["kind"] == "constant" else {"min_lr": 0.0}
    whole = Schedule.model_validate({**schedule, **floor, "warmup": warmup})
    rate = learning_rate(make_recipe(schedule=whole, max_steps=num_steps), num_steps)
    assert all(0 < rate.at(step * PER_STEP) <= PEAK for step in range(num_steps))


PARENTS_LAST = 4e-3
EXTENSIONS: list[dict[str, Any]] = [
    {"kind": "constant"},
    {"kind": "linear", "to": 0.0},
    {"kind": "cosine", "to": 1e-4},
    {"kind": "linear", "to": 8e-3},
    {"kind": "constant", "peak": 8e-3, "warmup": 10},
    {"kind": "cosine", "to": 0.0, "peak": 8e-3, "warmup": "25%"},
]


@pytest.mark.parametrize("schedule", EXTENSIONS, ids=str)
def test_an_extension_begins_where_the_parent_ended(schedule: dict[str, Any]) -> None:
    found = extended(schedule, PARENTS_LAST)
    is_rising = "peak" in schedule
    assert found[0] == (rise(10, PARENTS_LAST, 8e-3)[0] if is_rising else PARENTS_LAST)
    steepest = max(8e-3 / 10, PARENTS_LAST / 40 * math.pi / 2, 8e-3 / 30 * math.pi / 2)
    assert max(abs(b - a) for a, b in itertools.pairwise(found)) <= steepest


@pytest.mark.parametrize("schedule", EXTENSIONS, ids=str)
def test_every_step_of_an_extension_learns(schedule: dict[str, Any]) -> None:
    assert min(extended(schedule, PARENTS_LAST)) > 0
    assert extended(schedule, PARENTS_LAST, start_step=STEPS - 1)[0] > 0


def test_an_extension_that_holds_a_rate_of_zero_learns_nothing() -> None:
    def extension(start_lr: float, **fields: Any) -> LearningRate:
        recipe = make_recipe(schedule=ResumeSchedule.model_validate(fields), max_steps=STEPS)
        return learning_rate(recipe, STEPS, start_step=60, start_lr=start_lr)

    assert extension(0.0, kind="constant").is_zero
    assert extension(0.0, kind="linear", to=0.0).is_zero
    assert not extension(1e-9, kind="linear", to=0.0).is_zero
    assert not extension(0.0, kind="constant", peak=1e-3, warmup=2).is_zero


def test_a_constant_extension_holds_the_parents_last_rate_not_the_optimizers() -> None:
    found = extended({"kind": "constant"}, PARENTS_LAST)
    assert found == [PARENTS_LAST] * 40


def test_an_extension_may_rise_to_a_peak_first() -> None:
    schedule = {"kind": "linear", "to": 0.0, "peak": 8e-3, "warmup": 10}
    found = extended(schedule, PARENTS_LAST)
    fall = [8e-3 * (1 - step / 30) for step in range(30)]
    assert found == pytest.approx(rise(10, PARENTS_LAST, 8e-3) + fall, abs=1e-15)


def test_a_share_as_warmup_of_an_extension_is_of_its_own_steps() -> None:
    schedule = {"kind": "constant", "peak": 8e-3, "warmup": "25%"}
    found = extended(schedule, 0.0)
    assert found[9] < found[10] == found[-1] == 8e-3


def test_the_stable_part_of_wsd_can_be_extended_and_then_decayed() -> None:
    stable = make_rate({"kind": "wsd", "warmup": 10, "decay": 10, "min_lr": 0.0}).at(50 * PER_STEP)
    found = extended({"kind": "linear", "to": 0.0}, stable, start_step=51)
    assert found == pytest.approx([PEAK * (1 - step / 49) for step in range(49)], abs=1e-15)
