"""Whatever is loaded, only a SpecError comes out, within a second of the processor's time.

`pytest -m fuzz -s --fuzz-cases 100000 --seed 7` is the long form; it prints its figures.
"""

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings

from continuum.loading.diagnostics import SpecError
from continuum.loading.load import load_experiment
from tests.spec.fuzz.inputs import INPUTS, Input

MAX_SECONDS = 1.0
"""Of the processor, which counts other programs less than a clock on the wall."""


@dataclass
class Figures:
    """What came of all the inputs."""

    codes: Counter[str] = field(default_factory=Counter)
    num_valid: int = 0
    num_wrong: int = 0
    slowest_s: float = 0.0

    def __str__(self) -> str:
        codes = ", ".join(f"{code} {number:,}" for code, number in self.codes.most_common())
        return (
            f"{self.num_valid + self.num_wrong:,} inputs: {self.num_valid:,} valid, "
            f"{self.num_wrong:,} wrong; slowest {self.slowest_s:.3f} s of processor time; {codes}"
        )


@pytest.mark.fuzz
@pytest.mark.timeout(0)
def test_any_input_is_valid_or_its_errors_are_reported(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    figures = Figures()

    @seed(request.config.getoption("--seed"))
    @settings(
        max_examples=request.config.getoption("--fuzz-cases"),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(INPUTS)
    def hold(given_input: Input) -> None:
        check(given_input, tmp_path, figures)

    hold()
    print(f"\n{figures}")
    assert figures.num_wrong > figures.num_valid / 2, "the inputs are too tame to show anything"


def check(given_input: Input, folder: Path, figures: Figures) -> None:
    """Load one input, and hold what comes out against what is promised."""
    path = folder / "experiment.yaml"
    path.write_bytes(given_input.raw)
    for name, content in given_input.files.items():
        (folder / name).write_bytes(content)
    error, elapsed_s = timed(path, given_input.overrides)
    if elapsed_s >= MAX_SECONDS:  # once more: another process may have taken the caches
        elapsed_s = min(elapsed_s, timed(path, given_input.overrides)[1])
    figures.slowest_s = max(figures.slowest_s, elapsed_s)
    assert elapsed_s < MAX_SECONDS
    if error is None:
        figures.num_valid += 1
        return
    figures.num_wrong += 1
    figures.codes.update(found.code for found in error.diagnostics)
    assert error.diagnostics
    for found in error.diagnostics:
        assert found.place.line >= 1
        assert found.place.column >= 1
        assert json.loads(json.dumps(found.as_json())) == found.as_json()
    # What is printed may hold no sign that steers a terminal, and can be printed at all.
    shown = str(error).replace("\n", "").encode().decode()
    assert not any(ord(char) < 32 or ord(char) == 127 for char in shown), shown


def timed(path: Path, overrides: tuple[str, ...]) -> tuple[SpecError | None, float]:
    """What loading ends in, and the seconds of the processor that it took."""
    started = time.process_time()
    error = error_of(path, overrides)
    return error, time.process_time() - started


def error_of(path: Path, overrides: tuple[str, ...] = ()) -> SpecError | None:
    """What loading ends in, None if the spec is valid; anything but a SpecError passes."""
    try:
        load_experiment(path, overrides)
    except SpecError as error:
        return error
    return None
