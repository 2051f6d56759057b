"""The experiment: a name, a seed, and stages that reference each other, as frozen values."""

import heapq
from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticKnownError

from continuum.experiment.fields import Ref, Spec, cosmetic_field
from continuum.experiment.seeds import Seed, Seeds

References = Mapping[tuple[str | int, ...], Ref[Any]]
"""The references of one stage by path."""


def _no_truth_value(value: Any) -> Any:
    if value is True:  # which equals 1
        raise PydanticKnownError("literal_error", {"expected": "1"})
    return value


class Experiment(Spec):
    """One experiment: a name, a seed, and its stages."""

    continuum: Annotated[Literal[1], BeforeValidator(_no_truth_value)] = cosmetic_field(...)
    """The version of this format."""
    name: str = cosmetic_field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Letters, digits, dots, dashes and underscores."""
    description: str | None = cosmetic_field(None)
    """A sentence for readers; it has no effect."""
    seed: Seed = 42
    """Sets `seeds.init` and `seeds.data`: a model's first weights and the order of its samples."""
    seeds: Seeds = Field(Seeds(), examples=[{"init": 1, "data": 2, "split": 3}])
    """Individual seeds, which override `seed`."""
    vars: dict[str, str | int | float | bool | None] = cosmetic_field({}, examples=[{"lr": 3e-4}])
    """Values for `${name}` anywhere in `stages`."""
    stages: dict[str, Any] = Field(min_length=1)
    """The stages by name, each with its `kind`."""

    def all_seeds(self) -> dict[str, int]:
        """The default seeds of stages, by name."""
        return self.seeds.with_seed(self.seed)

    def in_order(self) -> list[str]:
        """The names of the stages, each after those it references, otherwise as written."""
        written = {name: number for number, name in enumerate(self.stages)}
        references = {name: stage.refs() for name, stage in self.stages.items()}
        sorter = TopologicalSorter(reference_graph(references))
        sorter.prepare()
        ordered: list[str] = []
        ready: list[tuple[int, str]] = []
        while sorter.is_active():
            for name in sorter.get_ready():
                heapq.heappush(ready, (written[name], name))
            _, first = heapq.heappop(ready)
            ordered.append(first)
            sorter.done(first)
        return ordered


def reference_graph(references: Mapping[str, References]) -> dict[str, set[str]]:
    """The referenced stages of each stage."""
    return {name: {ref.stage for ref in refs.values()} for name, refs in references.items()}
