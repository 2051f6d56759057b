"""Fingerprints outlive releases: a finished run is found again by every later continuum."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from continuum.experiment.fields import field_values, runtime_field
from continuum.loading.load import load_experiment
from continuum.stages import stage_kinds
from continuum.stages.fetch import Fetch
from tests.planning.golden_stages import (
    GOLDEN,
    current_fingerprints,
    field_paths,
    prepare,
)

ADVICE = """
Finished runs of these stages, wherever they lie, would be taken for nothing and made again.
  - A new field belongs to no old spec: give it the default None, or declare it with runtime_field.
  - Does a kind make something else from the same spec now? Then raise the kind's `version`.
  - A shipped experiment was edited, or a stage or kind is new: that disowns nothing.
If it is meant: `python -m tests.planning.golden_stages` writes tests/planning/golden.json anew.
"""


def test_no_fingerprint_has_changed() -> None:
    golden, current = json.loads(GOLDEN.read_text(encoding="utf-8")), current_fingerprints()
    changed = [
        f"{spec}: {stage}"
        for spec in golden.keys() | current.keys()
        for stage, wanted in _both(golden, current, spec)
        if wanted
    ]
    assert not changed, f"other fingerprints: {', '.join(sorted(changed))}\n{ADVICE}"


def _both(
    golden: Mapping[str, dict[str, str]], current: Mapping[str, dict[str, str]], spec: str
) -> list[tuple[str, bool]]:
    """The stages of a spec, each with whether its fingerprint differs."""
    old, new = golden.get(spec, {}), current.get(spec, {})
    return [(stage, old.get(stage) != new.get(stage)) for stage in old.keys() | new.keys()]


@pytest.mark.parametrize("kind", stage_kinds())
def test_the_golden_experiment_has_every_field_of_every_kind(kind: str, tmp_path: Path) -> None:
    said: set[str] = set()
    for stage in load_experiment(prepare(tmp_path)).stages.values():
        if stage.kind == kind:
            paths = (item.path for item in field_values(stage))
            said |= {re.sub(r"\.\d+(?=\.|$)", ".*", path) for path in paths}
    missing = [
        path
        for path in field_paths(stage_kinds()[kind])
        if not any(have == path or have.startswith(f"{path}.") for have in said)
    ]
    assert not missing, (
        f"add stages to tests/planning/golden/experiment.yaml that say {missing} of kind {kind}, "
        "then run `python -m tests.planning.golden_stages`"
    )


def test_a_later_optional_field_or_runtime_field_disowns_nothing() -> None:
    class LaterFetch(Fetch):
        dialect: str | None = None
        at_once: int = runtime_field(4)

    spec: dict[str, Any] = {"kind": "fetch", "sources": ({"url": "https://example.org/a.txt"},)}
    earlier, later = Fetch.model_validate(spec), LaterFetch.model_validate(spec)
    assert later.identity() == earlier.identity()
    assert LaterFetch.model_validate({**spec, "at_once": 9}).identity() == earlier.identity()
    said = LaterFetch.model_validate({**spec, "dialect": "en"})
    assert said.identity() != earlier.identity()
