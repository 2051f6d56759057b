"""Parses numbers of tokens and steps, learning rates, durations, and parts of a run."""

import math
import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError

from continuum.experiment.fields import UNIT, WHOLE, Spec, whole_number

_COUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)([kKMBT]?)")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_SUFFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
MAX_COUNT = 10**18
COUNT_PATTERN = (
    r"^\s*(?=[0-9_.]*[1-9])[0-9][0-9_]*(\.0+|(\.[0-9]{1,3}0*)?[kK]|(\.[0-9]{1,6}0*)?M"
    r"|(\.[0-9]{1,9}0*)?B|(\.[0-9]{1,12}0*)?T)?\s*$"
)
"""A positive whole count as text, for the JSON Schema."""
PERCENT_PATTERN = r"^\s*(100(\.0+)?|0*[0-9]{1,2}(\.[0-9]+)?)\s*%\s*$"
"""A share of at most 100% as text."""


def parse_count(value: Any) -> Any:
    """Parse `1_000_000`, `300k`, `1.5M`, `2B` or `3e6`; leave others to the type check.

    Raises:
        PydanticCustomError: the text is not a whole number.
    """
    if not isinstance(value, str):
        return whole_number(value)
    match = _COUNT.fullmatch(value.strip())
    if match is None:
        raise PydanticCustomError(
            "count_format", "Input should be a count such as 1_000_000, 300k, 1.5M or 2B"
        )
    # Exact: 16.1M is a whole number, which 16.1 * 10**6 as floats is not.
    count = Decimal(match[1].replace("_", "")) * _SUFFIXES[match[2]]
    if count > MAX_COUNT or count != int(count):
        raise PydanticCustomError("count_format", "Input should be a whole number below 1e18")
    return int(count)


_COUNT_SCHEMA: dict[str, Any] = {
    "type": ["integer", "string"],
    "minimum": 1,
    "maximum": MAX_COUNT,
    "pattern": COUNT_PATTERN,
}
Count = Annotated[
    int,
    BeforeValidator(parse_count),
    Field(ge=1, le=MAX_COUNT),
    WithJsonSchema({**_COUNT_SCHEMA, "examples": [1000, "20k"]}),
]
"""A positive whole number, also as text such as `300k`, `1.5M`, `2B`."""
Tokens = Annotated[
    Count, WithJsonSchema({**_COUNT_SCHEMA, UNIT: "tokens", "examples": [1_000_000, "1.5M", "2B"]})
]
"""A count of tokens."""
Steps = Annotated[
    Count, WithJsonSchema({**_COUNT_SCHEMA, UNIT: "optimizer steps", "examples": [1000, "20k"]})
]
"""A count of optimizer steps."""


def _parse_rate(value: Any) -> float | str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 <= value < math.inf:
            raise PydanticKnownError("greater_than_equal", {"ge": 0})
        return float(value)
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        message = "Input should be a learning rate or a share of the peak such as 10%"
        raise PydanticCustomError("rate_format", message)
    return f"{float(match[1]):g}%"  # canonical, because it is part of the identity


Rate = Annotated[
    float | str,
    PlainValidator(_parse_rate),
    WithJsonSchema({"type": ["number", "string"], "minimum": 0, "pattern": PERCENT_PATTERN}),
]
"""A learning rate, or a share of the peak such as `10%`."""


def rate_of(rate: float | str, peak: float) -> float:
    """The learning rate of a `Rate` for this peak."""
    return peak * float(rate.rstrip("% ")) / 100 if isinstance(rate, str) else rate


_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(value: Any) -> Any:
    """Parse `90`, `90s`, `30m`, `2h` or `1d` to seconds; leave others to the type check.

    Raises:
        PydanticCustomError: the text is not a duration.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise PydanticCustomError("duration_format", "Input should be a duration: 90s, 30m, 2h, 1d")
    return float(match[1]) * _SECONDS[match[2]]


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0, allow_inf_nan=False),
    WithJsonSchema(
        {
            "type": ["number", "string"],
            "exclusiveMinimum": 0,
            "pattern": r"^\s*(?=[0-9.]*[1-9])[0-9]+(\.[0-9]+)?\s*[smhd]?\s*$",
            UNIT: "seconds",
            "examples": [600, "10m", "2h"],
        }
    ),
]
"""Seconds, also as text such as `90s`, `10m`, `2h`."""


class Amount(Spec):
    """A part of a run: `100` (optimizer steps), `5%` (of the run), `{tokens: 300k}`."""

    is_scalar = True

    steps: Annotated[int, Field(ge=0), WHOLE] | None = Field(
        None, json_schema_extra={UNIT: "optimizer steps"}
    )
    """Optimizer steps, also as a plain number."""
    percent: float | None = Field(None, ge=0, le=100, json_schema_extra={UNIT: "% of the run"})
    """Share of the run's steps, also as `5%`."""
    tokens: Tokens | None = None
    """Training tokens."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if isinstance(value, dict):
            given = [key for key, item in value.items() if item is not None]
            if len(given) != 1 and value.keys() <= cls.model_fields.keys():
                raise PydanticCustomError("amount_format", "give one of steps, percent, tokens")
            return value
        if isinstance(value, Amount):
            return value
        if isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
            return {"percent": float(match[1])}
        count = parse_count(value)
        if isinstance(count, bool) or not isinstance(count, int):
            raise PydanticCustomError(
                "amount_format", "Input should be a number of steps, 5%, or {{tokens: 300k}}"
            )
        return {"steps": count}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        described = handler.resolve_ref_schema(handler(core_schema))
        # The short forms and the mapping: each keyword below applies to one type.
        described |= {
            "type": ["integer", "string", "object"],
            "minimum": 0,
            "maximum": MAX_COUNT,
            "pattern": f"{PERCENT_PATTERN}|^\\s*0\\s*$|{COUNT_PATTERN}",
            "examples": [100, "5%", {"tokens": "300k"}],
        }
        return described

    def in_steps(self, num_steps: int, tokens_per_step: int) -> int:
        """Whole optimizer steps in a run of `num_steps`, at least one for a positive amount."""
        if self.steps is not None:
            return self.steps
        if self.percent is not None:
            exact = self.percent * num_steps / 100
            return max(1, round(exact)) if exact > 0 else 0
        assert self.tokens is not None
        return math.ceil(self.tokens / tokens_per_step)

    def __str__(self) -> str:
        if self.steps is not None:
            return f"{self.steps} steps"
        return f"{self.percent:g}%" if self.percent is not None else f"{self.tokens:,} tokens"


def _is_positive(amount: Amount) -> Amount:
    if amount.steps == 0 or amount.percent == 0:
        raise PydanticCustomError("period_zero", "must be at least 1 step, or null for never")
    return amount


Period = Annotated[Amount, AfterValidator(_is_positive)]
"""The `Amount` between two events, which must be above zero."""
