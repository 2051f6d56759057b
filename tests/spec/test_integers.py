"""Integer fields take a whole number however YAML writes it: `1e3` is 1000."""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest

from continuum.experiment.experiment import Experiment
from continuum.loading import keys
from continuum.loading.diagnostics import SpecError
from continuum.loading.load import load_experiment
from continuum.stages import stage_kinds
from tests.spec.documents import TRAINING, write

AT = "stages.pretrain."
WHOLE = {
    "seed": "1e3",
    "seeds.init": "1e3",
    "seeds.split": "2.0",
    "stages.tokenizer.vocab_size": "2e3",
    "stages.tokenizer.min_frequency": "3.0",
    AT + "seed": "1e3",
    AT + "seeds.data": "1e3",
    AT + "model": "{name: pythia-14m, n_layer: 2e0, n_query_groups: 4.0}",
    AT + "sequence_length": "1.28e2",
    AT + "global_batch_size": "1.6e1",
    AT + "evaluate": "{sequences: 8e0}",
    AT + "schedule": "{warmup: {steps: 1e1}}",
    AT + "runtime": "{micro_batch_size: 2e0, devices: 1e0, num_nodes: 1.0, log_every: 1e1}",
    AT + "runtime.checkpoint": "{keep_last: 3e0}",
}


@pytest.mark.parametrize("path", WHOLE)
def test_an_integer_may_be_written_with_an_exponent(path: str, tmp_path: Path) -> None:
    spec = write(tmp_path / "spec.yaml", TRAINING)
    found = load_experiment(spec, [f"{path}={WHOLE[path]}"])
    assert found == load_experiment(spec, [f"{path}={_in_digits(WHOLE[path])}"])


def _in_digits(text: str) -> str:
    words = text.replace("}", " }").replace(",", " ,").split(" ")
    numbers = {it for it in words if it[:1].isdigit()}
    return " ".join(str(int(float(it))) if it in numbers else it for it in words)


def test_a_fraction_is_still_no_integer(tmp_path: Path) -> None:
    spec = write(tmp_path / "spec.yaml", TRAINING)
    with pytest.raises(SpecError) as error:
        load_experiment(spec, ["seed=1.5", AT + "runtime={micro_batch_size: 8.5, devices: 1.5}"])
    messages = [it.message for it in error.value.diagnostics]
    assert sorted(messages) == [
        "devices must be an integer, not 1.5",
        "micro_batch_size must be an integer, not 8.5",
        "seed must be an integer, not 1.5",
    ]


def _numbers(annotation: Any, *, is_converted: bool = False) -> Iterator[bool]:
    """For each `int` in a type: whether something converts its value first."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        converts = is_converted or any(hasattr(it, "func") for it in arguments[1:])
        yield from _numbers(arguments[0], is_converted=converts)
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _numbers(argument, is_converted=is_converted)
    elif annotation is int:
        yield is_converted


@pytest.mark.parametrize("cls", [Experiment, *stage_kinds().values()], ids=lambda it: it.__name__)
def test_every_integer_field_converts_a_whole_number(cls: type) -> None:
    for path, (first, *_) in keys.fields(cls).items():
        converts = any(hasattr(it, "func") for it in first.info.metadata)
        assert all(_numbers(first.info.annotation, is_converted=converts)), path
