"""Every file in `tests/specs` has the errors that its comments expect, and no others.

# expect: E101 line 9 column 5 "unknown key 'lr'" suggests "optimizer.lr"
# expect: E103 in bases/wrong-types.yaml line 3 column 7 "seed must be an integer"
# expect: E304 in --set "stage .pretrian. not found"
# set: stages.pretrian.optimizer.lr=1e-4
"""

import functools
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from continuum.lint import check
from continuum.loading.codes import CODES
from continuum.loading.diagnostics import Diagnostic, SpecError

SPECS = Path(__file__).parent.parent / "specs"
FILES = sorted(SPECS.glob("*.yaml"))
MAX_SECONDS = 1.0
_EXPECTATION = re.compile(
    r"# expect: (?P<code>E\d{3}) (?:in (?P<file>\S+) )?"
    r"(?:line (?P<line>\d+) column (?P<column>\d+) )?"
    r'"(?P<message>.*?)"(?: suggests "(?P<suggestion>.*)")?'
)
JARGON = re.compile(
    r"Input|Pydantic|validator|dict\b|tuple|NoneType|None\b|instance|pattern|"
    r"\{\{|function-|Traceback|<class|stages\.\w+ needs"
)


@dataclass(frozen=True)
class Expectation:
    code: str
    file: str
    line: int
    column: int
    message: str
    suggestion: str | None

    def fits(self, found: Diagnostic) -> bool:
        place = found.place
        is_there = place.is_override or (
            Path(place.file) == SPECS / self.file
            and (place.line, place.column) == (self.line, self.column)
        )
        return (
            found.code == self.code
            and is_there
            and place.is_override == (self.file == "--set")
            and self.message in found.message
            and found.suggestion == self.suggestion
        )


def expectations(path: Path) -> list[Expectation]:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for line in (line for line in lines if line.startswith("# expect:")):
        match = _EXPECTATION.fullmatch(line)
        assert match, f"{path.name}: not an expectation: {line}"
        file = match["file"] or path.name
        position = (int(match["line"] or 0), int(match["column"] or 0))
        found.append(
            Expectation(match["code"], file, *position, match["message"], match["suggestion"])
        )
    return found


@functools.cache
def mistakes_in(path: Path) -> SpecError:
    lines = path.read_text(encoding="utf-8").splitlines()
    overrides = [line.removeprefix("# set: ") for line in lines if line.startswith("# set: ")]
    return SpecError(it for it in check(path, overrides).found if it.code in CODES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_wrong_spec_has_exactly_the_expected_errors(path: Path) -> None:
    started = time.process_time()
    error = mistakes_in(path)
    assert time.process_time() - started < MAX_SECONDS

    unexpected = list(error.diagnostics)
    for expected in expectations(path):
        fitting = [found for found in unexpected if expected.fits(found)]
        assert fitting, f"{expected} is not among:\n{error}"
        unexpected.remove(fitting[0])
    assert not unexpected, f"not expected: {unexpected}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_message_speaks_the_users_language(path: Path) -> None:
    for found in mistakes_in(path).diagnostics:
        assert not JARGON.search(found.message), found.message
        assert "\n" not in found.message
        assert found.code in CODES


def test_every_code_has_a_file_or_a_test_of_bytes() -> None:
    met = {expected.code for path in FILES for expected in expectations(path)}
    assert CODES.keys() - met == {"E001"}


def test_sixteen_errors_of_one_file_are_reported_at_once() -> None:
    found = check(SPECS / "sixteen.yaml").found
    assert len(found) == 16
    (warning,) = (it for it in found if it.severity == "warning")
    assert (warning.place.line, warning.place.column) == (27, 11)
    assert "4,095, but pythia-14m has 1,024 embeddings" in warning.message
