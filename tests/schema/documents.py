"""Documents as a schema sees them, and where the specs of this repository lie."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from continuum.loading.json_schema import experiment_schema
from continuum.loading.yaml import read_file

ROOT = Path(__file__).parents[2]
WRONG = sorted((ROOT / "tests" / "specs").glob("*.yaml"))
SHIPPED = sorted([*ROOT.glob("experiments/*/experiment.yaml"), *ROOT.glob("configs/*.yaml")])
TEMPLATES = sorted((ROOT / "continuum" / "templates").glob("*.yaml"))


@cache
def validator() -> Draft202012Validator:
    """Checks documents against the schema as the code makes it."""
    return Draft202012Validator(experiment_schema())


def document(path: Path) -> Any:
    """The file's content as JSON values; variables are not filled in, bases not merged."""
    return json.loads(json.dumps(read_file(path, []).plain()))


def is_accepted(value: Any) -> bool:
    return bool(validator().is_valid(value))
