"""Every field says what it is: description, role, and examples and defaults that hold."""

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, create_model

from continuum.experiment.amounts import COUNT_PATTERN, PERCENT_PATTERN, Amount, Count
from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import LocalPath, Spec
from continuum.experiment.optimizers import OPTIMIZER_ARGUMENTS
from continuum.loading.explain import Field, all_fields, all_kinds
from continuum.loading.json_schema import experiment_schema
from continuum.loading.keys import field_at
from continuum.loading.load import load_experiment
from continuum.stages import stage_kinds

ROLES = {"identity", "runtime", "cosmetic"}
FIELDS = all_fields()


def of_models() -> set[tuple[str, str]]:
    """Kind (empty: the experiment) and name of every field that the models declare at the top."""
    models: dict[str, type[Spec]] = {"": Experiment, **stage_kinds()}
    return {
        (kind, info.alias or name)
        for kind, model in models.items()
        for name, info in model.model_fields.items()
    }


def test_every_field_of_the_models_is_there() -> None:
    found = {(kind, field.path) for field in FIELDS for kind in field.kinds or ("",)}
    assert of_models() | {("", "extends")} == {place for place in found if "." not in place[1]}
    for place in (
        "runtime.checkpoint.every.tokens",
        "optimizer.no_weight_decay",
        "model.n_layer",
        "evaluate.every.percent",
        "schedule.min_lr",
    ):
        assert ("pretrain", place) in found
    assert ("fetch", "sources.sha256") in found
    assert ("tokenize", "validation.fraction") in found


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: f"{field.path} {field.kinds}")
def test_every_field_has_a_description_and_a_role(field: Field) -> None:
    assert len(field.description) > 10
    assert "None" not in field.description
    assert "\n" not in field.description
    assert field.role in ROLES
    assert field.type


def test_whatever_lies_below_runtime_is_runtime() -> None:
    roles = {field.role for field in FIELDS if re.match(r"(runtime|evaluate)\b", field.path)}
    assert roles == {"runtime"}
    assert {field.role for field in FIELDS if field.path == "schedule.warmup.steps"} == {"identity"}


def test_the_roles_are_those_that_fingerprints_go_by(shipped: Path) -> None:
    path = shipped / "experiments" / "quickstart" / "experiment.yaml"
    for stage in load_experiment(path).stages.values():
        told = {
            field.path
            for field in FIELDS
            if stage.kind in field.kinds and "." not in field.path and field.role == "identity"
        }
        values = {
            info.alias or name: getattr(stage, name)
            for name, info in type(stage).model_fields.items()
        }
        assert stage.identity().keys() == {
            name
            for name in told
            if values[name] is not None and not isinstance(values[name], LocalPath)
        }


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("max_tokens", "tokens"),
        ("max_steps", "optimizer steps"),
        ("epochs", "epochs"),
        ("global_batch_size", "sequences"),
        ("runtime.checkpoint.minutes", "minutes"),
        ("runtime.log_every", "optimizer steps"),
        ("vocab_size", "token ids"),
    ],
)
def test_quantities_have_units(path: str, unit: str) -> None:
    assert {field.unit for field in FIELDS if field.path == path} == {unit}


def models_with_examples() -> list[tuple[str, str, Any]]:
    return [
        (kind, field.path, example)
        for field in FIELDS
        for kind in field.kinds
        for example in (*field.examples, *([] if field.default is None else [field.default]))
        if field_at(stage_kinds()[kind], tuple(field.path.split("."))) is not None
    ]


@pytest.mark.parametrize(("kind", "path", "example"), models_with_examples())
def test_an_example_or_default_is_taken_by_the_model(kind: str, path: str, example: Any) -> None:
    found = field_at(stage_kinds()[kind], _through_lists(path))
    assert found is not None
    info = found.info
    name = path.rpartition(".")[2]
    field: Any = (info.annotation, info)
    alone: type[Spec] = create_model("Alone", __base__=Spec, **{f"{name}_": field})
    written = {info.alias or f"{name}_": _as_loaded(example)}
    alone.model_validate(written, context={"folder": Path()})


def _through_lists(path: str) -> tuple[str | int, ...]:
    parts: list[str | int] = []
    for part in path.split("."):
        parts += [part, 0] if part == "sources" and "." in path else [part]
    return tuple(parts)


def _as_loaded(value: Any) -> Any:
    """The loader hands lists on as tuples."""
    if isinstance(value, list):
        return tuple(map(_as_loaded, value))
    return {k: _as_loaded(v) for k, v in value.items()} if isinstance(value, dict) else value


def test_an_example_or_default_is_taken_by_its_own_schema() -> None:
    definitions = experiment_schema()["$defs"]
    checked = 0
    for name, definition in definitions.items():
        for key, field in definition.get("properties", {}).items():
            examples = [
                *field.get("examples", ()),
                *([field["default"]] if "default" in field else []),
            ]
            validator = Draft202012Validator({**field, "$defs": definitions})
            for example in examples:
                assert validator.is_valid(example), (name, key, example)
                checked += 1
    assert checked > 120


@pytest.mark.parametrize(
    "text", ["1", "1_000", "300k", "1.5M", "0.5k", "2B", "1.0", "1.0001M", "16.1M", " 7 ", "1.50k"]
)
def test_the_pattern_of_counts_takes_what_the_code_takes(text: str) -> None:
    assert TypeAdapter(Count).validate_python(text) >= 1
    assert re.search(COUNT_PATTERN, text)


@pytest.mark.parametrize("text", ["0", "0k", "1.0001k", "1.5", "k", "12q", "-1", "1 M", "", "1e3"])
def test_the_pattern_of_counts_refuses_what_the_code_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="Input should be"):
        TypeAdapter(Count).validate_python(text)
    assert not re.search(COUNT_PATTERN, text)


@pytest.mark.parametrize("text", ["0%", "5%", "12.5 %", "100%", "100.0%", "099%"])
def test_the_pattern_of_shares_takes_what_the_code_takes(text: str) -> None:
    assert Amount.model_validate(text).percent is not None
    assert re.search(PERCENT_PATTERN, text)


@pytest.mark.parametrize("text", ["101%", "100.5%", "%", "-5%", "5", "1e1%"])
def test_the_pattern_of_shares_refuses_what_the_code_refuses(text: str) -> None:
    if text != "5":  # steps, not a share
        with pytest.raises(ValueError, match="Input should be"):
            Amount.model_validate(text)
    assert not re.search(PERCENT_PATTERN, text)


def test_every_argument_of_every_optimizer_is_described_and_no_other() -> None:
    described = {field.path for field in FIELDS if field.path.startswith("optimizer.")}
    known = {name for arguments in OPTIMIZER_ARGUMENTS.values() for name in arguments}
    assert described == {f"optimizer.{name}" for name in known | {"name", "lr", "no_weight_decay"}}


def test_every_kind_has_a_page() -> None:
    assert [kind.name for kind in all_kinds()] == list(stage_kinds())
    for kind in all_kinds():
        assert len(kind.summary) > 20
