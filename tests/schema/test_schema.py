"""The schema takes what the loader takes: shipped specs, short forms, variables, bases."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from continuum.experiment.architecture import architecture
from continuum.loading.diagnostics import SpecError
from continuum.loading.json_schema import experiment_schema, schema_text
from continuum.loading.load import load_experiment
from continuum.stages import stage_kinds
from tests.experiments import small_stages
from tests.schema.documents import ROOT, SHIPPED, TEMPLATES, WRONG, document, is_accepted, validator

COMMITTED = ROOT / "configs" / "experiment.schema.json"


def small(**changes: Any) -> dict[str, Any]:
    """The small flow; `stage__field=value` replaces a field, `…__below=value` one below it."""
    stages = small_stages()
    for path, value in changes.items():
        *parents, last = path.split("__")
        target: dict[str, Any] = stages
        for key in parents:
            target[key] = dict(target.get(key, {}))
            target = target[key]
        target[last] = value
    return {"continuum": 1, "name": "toy", "stages": stages}


def load(value: dict[str, Any], folder: Path) -> None:
    """What the loader says of the same document; JSON is YAML."""
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(value), encoding="utf-8")
    load_experiment(path)


def test_it_is_a_json_schema_of_the_2020_dialect() -> None:
    assert experiment_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(experiment_schema())


def test_the_committed_file_is_what_the_code_makes() -> None:
    made = "continuum schema --out configs/experiment.schema.json"
    assert COMMITTED.read_text(encoding="utf-8") == schema_text(), f"make it anew: {made}"
    assert json.loads(schema_text()) == json.loads(json.dumps(experiment_schema()))


def test_it_is_the_same_text_in_another_process() -> None:
    program = "from continuum.loading.json_schema import schema_text; print(schema_text(), end='')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == schema_text(), done.stderr


@pytest.mark.parametrize("path", [*SHIPPED, *TEMPLATES], ids=lambda path: path.stem)
def test_a_shipped_spec_is_accepted_and_names_the_schema(path: Path) -> None:
    assert not list(validator().iter_errors(document(path)))
    line, _, _ = path.read_text(encoding="utf-8").partition("\n")
    _, found, name = line.partition("# yaml-language-server: $schema=")
    assert found, line
    is_template = path in TEMPLATES  # `continuum init` writes the schema beside it
    assert is_template or (path.parent / name).resolve() == COMMITTED


ACCEPTED: dict[str, dict[str, Any]] = {
    "the small flow": {},
    "a count with a suffix": {"pretrain__max_steps": "1_0k"},
    "a count as a float": {"pretrain__max_steps": 2e1},
    "an amount in percent": {"pretrain__evaluate__every": "12.5 %"},
    "an amount in tokens": {"pretrain__evaluate__every": {"tokens": "1k"}},
    "an amount with a null beside": {"pretrain__evaluate__every": {"steps": 3, "percent": None}},
    "another budget set to null": {"pretrain__max_tokens": None},
    "no evaluation": {"pretrain__evaluate": None},
    "a mixture": {"pretrain__data": {"tokens": 3, "code_tokens": 1.5}},
    "a selected checkpoint": {"weights__from": "longer@step-30"},
    "a rate as a share": {"pretrain__schedule": {"min_lr": "0%"}},
    "a constant rate, its idle floor written out": {
        "pretrain__schedule": {"kind": "constant", "min_lr": "10.0 %"},
    },
    "wsd": {"pretrain__schedule": {"kind": "wsd", "decay": "20%"}},
    "a resume that rises": {
        "longer__schedule": {"kind": "constant", "peak": 1e-3, "warmup": 5},
    },
    "another optimizer": {
        "pretrain__optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True},
    },
    "switches that go together": {
        "pretrain__optimizer": {"lr": 1e-3, "foreach": True, "fused": False, "betas": [0, 0.9]},
    },
    "a model by its own name": {"pretrain__model": "pythia-14m"},
    "a model by its name on the Hub": {"pretrain__model": "EleutherAI/pythia-14m"},
    "validation files": {"tokens__validation": {"files": ["topics.py"]}},
    "no validation": {"tokens__validation": "none"},
}


@pytest.mark.parametrize("changes", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_form_that_the_loader_takes_is_accepted(changes: dict[str, Any], tmp_path: Path) -> None:
    value = small(**changes)
    if "code_tokens" not in str(changes):
        load(value, tmp_path)
    assert not list(validator().iter_errors(value))


VARIABLES: dict[str, tuple[str, Any]] = {
    "a number": ("pretrain__optimizer__lr", 1e-3),
    "an integer": ("pretrain__evaluate__sequences", 3),
    "a truth value": ("pretrain__evaluate__final", True),
    "a count": ("pretrain__sequence_length", "0.5k"),
    "an amount": ("pretrain__evaluate__every", "5%"),
    "a choice": ("pretrain__precision", "32-true"),
    "a reference": ("tokens__corpus", "prose"),
    "a model": ("pretrain__model", "pythia-14m"),
    "a field of a model": ("pretrain__model__n_layer", 2),
    "a list's item": ("pretrain__optimizer__betas", [0.9, 0.95]),
    "a kind": ("prose__kind", "fetch"),
    "a null": ("pretrain__max_norm", None),
}


@pytest.mark.parametrize(("place", "value"), VARIABLES.values(), ids=VARIABLES.keys())
def test_a_variable_may_stand_wherever_a_single_value_may(
    place: str, value: Any, tmp_path: Path
) -> None:
    used = ["${x}", 0.95] if isinstance(value, list) else "${x}"
    single = value[0] if isinstance(value, list) else value
    written = {**small(**{place: used}), "vars": {"x": single}}
    load(written, tmp_path)
    assert not list(validator().iter_errors(written))


def test_a_text_with_more_than_a_variable_is_no_number(tmp_path: Path) -> None:
    written = {**small(pretrain__optimizer__lr="1e-${x}"), "vars": {"x": 3}}
    assert not is_accepted(written)
    with pytest.raises(Exception, match="lr must be a number"):
        load(written, tmp_path)


def test_a_base_may_leave_out_anything_but_not_say_something_wrong() -> None:
    assert is_accepted({"stages": {"pretrain": {"optimizer": {"weight_decay": 0.1}}}})
    assert not is_accepted({"stages": {"pretrain": {"optimizer": {"weight_decay": "much"}}}})
    assert not is_accepted({"stages": {"pretrain": {"optimiser": {}}}})


def test_what_a_base_may_supply_may_be_absent() -> None:
    part = {"continuum": 1, "name": "toy", "stages": {"pretrain": {"kind": "pretrain"}}}
    assert is_accepted({**part, "extends": "base.yaml"})
    assert is_accepted(part)


def test_wrong_specs_are_rejected_for_keys_and_values_that_may_not_stand() -> None:
    rejected = []
    for path in WRONG:
        try:
            rejected += [] if is_accepted(document(path)) else [path.stem]
        except SpecError:
            continue  # it is not YAML
    assert len(rejected) >= 80
    assert {"unknown-key-in-a-stage", "wrong-types-everywhere", "unknown-kind"} <= set(rejected)


def test_a_stage_of_a_kind_has_only_that_kinds_fields() -> None:
    stage = {"kind": "fetch", "sources": [{"python": "argparse.py"}], "corpus": "books"}
    whole = {"continuum": 1, "name": "toy", "stages": {"books": stage}}
    (error,) = validator().iter_errors(whole)
    assert "'corpus' was unexpected" in error.message


def test_every_kind_is_offered_with_a_line_about_it() -> None:
    choice = experiment_schema()["$defs"]["Stage"]["properties"]["kind"]["anyOf"][0]
    assert choice["enum"] == list(stage_kinds())
    assert len(set(choice["enumDescriptions"])) == len(choice["enum"])
    assert all(len(said) > 20 for said in choice["enumDescriptions"])


def test_every_model_that_is_offered_exists() -> None:
    names = experiment_schema()["$defs"]["LitGPTModel"]["anyOf"][0]["enum"]
    assert len(names) > 200
    assert all(architecture(name).name for name in names)
