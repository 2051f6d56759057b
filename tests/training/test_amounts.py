from fractions import Fraction
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from continuum.experiment.amounts import (
    MAX_COUNT,
    Amount,
    Count,
    Period,
    Rate,
    parse_count,
    rate_of,
)

COUNTS: TypeAdapter[int] = TypeAdapter(Count)
RATES: TypeAdapter[Any] = TypeAdapter(Rate)
PERIODS: TypeAdapter[Amount] = TypeAdapter(Period)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (300, 300),
        ("300", 300),
        ("1_000_000", 1_000_000),
        ("300k", 300_000),
        ("300K", 300_000),
        ("1.5M", 1_500_000),
        ("2B", 2 * 10**9),
        ("0.5T", 5 * 10**11),
        ("1.001M", 1_001_000),
        ("16.1M", 16_100_000),
        ("0.001k", 1),
        (" 7k ", 7000),
        (3e6, 3_000_000),
        (MAX_COUNT, MAX_COUNT),
    ],
    ids=repr,
)
def test_a_count_is_understood(text: Any, number: int) -> None:
    assert COUNTS.validate_python(text, strict=True) == number


@pytest.mark.parametrize(
    "text",
    [
        0, -1, 1.5, True, None, "", "k", "1.5", "1.0005k", "-3", "+3", "3 M", "1,000", "2Mi",
        "1e6x", "0x10", "٣", float("nan"), float("inf"), 1e19, 10**18 + 1, "2000000T", "9" * 400,
        "9" * 400 + ".5", "9" * 5000,
    ],
    ids=lambda value: repr(value)[:12],
)  # fmt: skip
def test_what_is_no_count_is_refused(text: Any) -> None:
    with pytest.raises(ValidationError):
        COUNTS.validate_python(text, strict=True)


def test_every_count_with_three_decimals_is_exact() -> None:
    for thousands in range(1, 20_000, 7):
        assert parse_count(f"{thousands / 1000:.3f}M") == thousands * 1000


@pytest.mark.parametrize(
    ("rate", "under_2e_3"), [(3e-4, 3e-4), ("10%", 2e-4), ("0 %", 0.0), (0, 0)]
)
def test_a_rate_is_a_number_or_a_share_of_the_peak(rate: Any, under_2e_3: float) -> None:
    assert rate_of(RATES.validate_python(rate), 2e-3) == pytest.approx(under_2e_3, rel=1e-12)


@pytest.mark.parametrize("rate", [-1e-4, float("nan"), float("inf"), "101%", "3e-4", "-5%", None])
def test_what_is_no_rate_is_refused(rate: Any) -> None:
    with pytest.raises(ValidationError):
        RATES.validate_python(rate)


@pytest.mark.parametrize(
    ("short", "steps"),
    [
        (7, 7),
        (0, 0),
        ("1k", 1000),
        ("5%", 10),
        ("0.1%", 1),
        ("0%", 0),
        ("100%", 200),
        ({"steps": 7}, 7),
        ({"percent": 50.0}, 100),
        ({"tokens": 320}, 10),
        ({"tokens": 321}, 11),
        ({"tokens": "1k"}, 32),
    ],
    ids=str,
)
def test_an_amount_is_whole_steps_of_a_run(short: Any, steps: int) -> None:
    assert Amount.model_validate(short).in_steps(200, tokens_per_step=32) == steps


@pytest.mark.parametrize(
    "short",
    [
        "101%", "five", -1, 1.5, True, None, [5], {}, {"steps": 1, "tokens": 2}, {"share": 1},
        {"tokens": 0}, {"percent": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_amount_is_refused(short: Any) -> None:
    with pytest.raises(ValidationError):
        Amount.model_validate(short)


@pytest.mark.parametrize("short", [0, "0", "0%", {"steps": 0}, {"percent": 0.0}], ids=str)
def test_a_period_is_above_zero_where_an_amount_may_be_zero(short: Any) -> None:
    assert Amount.model_validate(short).in_steps(200, tokens_per_step=32) == 0
    with pytest.raises(ValidationError, match="at least 1 step, or null for never"):
        PERIODS.validate_python(short)
    assert PERIODS.validate_python("0.01%").in_steps(200, tokens_per_step=32) == 1


def test_an_amount_survives_the_way_to_a_worker() -> None:
    for short in (7, "5%", {"tokens": 320}):
        amount = Amount.model_validate(short)
        assert Amount.model_validate(amount.model_dump(mode="json")) == amount


@pytest.mark.parametrize(
    ("amount", "words"), [(7, "7 steps"), ("2.5%", "2.5%"), ({"tokens": 3200}, "3,200 tokens")]
)
def test_an_amount_says_itself(amount: Any, words: str) -> None:
    assert str(Amount.model_validate(amount)) == words


def test_a_share_is_rounded_to_the_nearest_step() -> None:
    for num_steps in range(1, 300):
        found = Amount(percent=5).in_steps(num_steps, 1)
        assert found == max(1, round(Fraction(num_steps, 20)))
