"""The schema rejects every wrong spec but those whose mistake no schema can see.

Files that are not YAML never reach a schema; their mistakes are the parser's.
"""

from pathlib import Path
from typing import Any

import pytest

from continuum.spec.diagnostics import Diagnostic, SpecError
from continuum.spec.experiment import load_experiment
from continuum.spec.source import read_file
from tests.schema.documents import WRONG, document, validator

REFERENCE = "a schema does not know which stages there are, nor what they make"
OVERRIDE = "the mistake is on the command line"
BASE = "the mistake is in a file that it extends"
VARIABLE = "a schema does not fill variables in"
ACCEPTED = {
    "best-by-no-metric": "which metrics there are depends on the datasets",
    "control-character-in-a-value": "free text may hold any character in JSON",
    "duplicate-key": "the values have one of the two only",
    "extends-a-folder": BASE,
    "extends-a-missing-file": BASE,
    "extends-faulty-bases": BASE,
    "extends-in-a-circle": BASE,
    "extends-unreadable-bases": BASE,
    "floor-above-the-peak": "a schema does not compare one number with another",
    "missing-head": "without `continuum` and `name` it is taken for a base",
    "mixture-of-unknown-datasets": REFERENCE,
    "mixture-share-too-small": "a share is a weight by the sum of all",
    "model-heads-not-divisible": "a schema does not divide one number by another",
    "model-width-not-divisible": "a schema does not divide one number by another",
    "override-of-an-unknown-key": OVERRIDE,
    "override-of-an-unknown-stage": OVERRIDE,
    "override-of-the-wrong-type": OVERRIDE,
    "override-outside-a-list": OVERRIDE,
    "override-without-a-value": OVERRIDE,
    "path-in-the-home-of-nobody": "a schema does not know who has a home on this machine",
    "pretrain-on-a-corpus": REFERENCE,
    "reference-to-a-corpus": REFERENCE,
    "reference-to-itself": REFERENCE,
    "reference-to-nothing": REFERENCE,
    "resume-from-a-dataset": REFERENCE,
    "resume-from-weights": REFERENCE,
    "retrain-from-a-tokenizer": REFERENCE,
    "selector-without-checkpoints": REFERENCE,
    "stage-that-misspells-a-base": BASE,
    "stages-in-a-circle": REFERENCE,
    "stages-that-no-run-can-begin": "a schema does not calculate",
    "undefined-variable": VARIABLE,
    "unknown-encoding": "Python's encodings have too many spellings to list",
    "unusable-addresses": "an address is free text",
    "variable-never-closed": VARIABLE,
    "variable-of-the-wrong-type": VARIABLE,
    "variables-in-a-circle": VARIABLE,
    "variables-that-multiply": VARIABLE,
}
VISIBLE = {"E101", "E102", "E103", "E104", "E105", "E106"}


def is_yaml(path: Path) -> bool:
    """Whether every parser reads the same in it: no tags, and no alias without its anchor."""
    mild: list[Diagnostic] = []
    try:
        read_file(path, mild)
    except SpecError:
        return False
    return not any(found.code in ("E002", "E006") for found in mild)


FILES = [path for path in WRONG if is_yaml(path)]


def places_of_visible_mistakes(path: Path) -> list[str]:
    """Where the loader finds mistakes in the file itself, of a kind that a schema should see.

    Without a path it is a value that was no value, such as `.nan`; a stage's name may hold dots.
    """
    with pytest.raises(SpecError) as caught:
        load_experiment(path)
    return [
        "stages" if found.code == "E106" else found.path
        for found in caught.value.diagnostics
        if found.code in VISIBLE
        and found.path
        and Path(found.place.file) == path
        and not is_variable(document(path), found.path)
    ]


def is_variable(below: Any, dotted: str) -> bool:
    """Whether the value at a path is made of a variable, whose value a schema does not see."""
    for part in dotted.split("."):
        below = below.get(part) if isinstance(below, dict) else None
    return isinstance(below, str) and "${" in below


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_wrong_spec_is_rejected_or_there_is_a_reason(path: Path) -> None:
    errors = list(validator().iter_errors(document(path)))
    assert bool(errors) != (path.stem in ACCEPTED), ACCEPTED.get(path.stem)


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.stem not in ACCEPTED],
    ids=lambda path: path.stem,
)
def test_the_schema_complains_where_the_loader_does(path: Path) -> None:
    found = [
        ".".join(str(part) for part in deepest.absolute_path)
        for error in validator().iter_errors(document(path))
        for deepest in (error, *(error.context or ()))
    ]
    for place in places_of_visible_mistakes(path):
        owner = place.rpartition(".")[0]  # a key that is missing or unknown is its owner's fault
        assert place in found or owner in found, (place, found)


def test_the_list_of_what_is_accepted_has_no_file_that_is_gone() -> None:
    assert ACCEPTED.keys() <= {path.stem for path in FILES}
    assert len(FILES) - len(ACCEPTED) >= 95, "wrong specs that the schema rejects"
