"""Seeds: each decides one thing, so that changing it makes nothing else run again.

`init` draws a new model's weights, `data` the order of the samples, `split` the documents that
validate. `seed` sets `init` and `data` and leaves `split` alone: runs with several training seeds
share their tokens and are evaluated on the same text. A kind of stage has a field `seeds` of a type
that holds the seeds it uses, and no other.
"""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import Field

from continuum.experiment.fields import Spec

SET_BY_SEED = ("init", "data")
"""What `seed` alone sets."""


class SplitSeeds(Spec):
    """The seed of a random split."""

    split: int | None = Field(None, ge=0, lt=2**32)
    """Draws the documents that validate, where documents are drawn."""


class OrderSeeds(Spec):
    """The seed of a training that begins from weights."""

    data: int | None = Field(None, ge=0, lt=2**32)
    """Draws the order in which the samples are read; `seed` unless stated."""


class TrainingSeeds(OrderSeeds):
    """The seeds of a training from scratch."""

    init: int | None = Field(None, ge=0, lt=2**32)
    """Draws the weights that a new model begins with; `seed` unless stated."""


class Seeds(TrainingSeeds):
    """The seeds of an experiment."""

    split: int = Field(0, ge=0, lt=2**32)
    """Draws the documents that validate; not set by `seed`, so that it leaves the tokens alone."""

    def with_seed(self, seed: int) -> dict[str, int]:
        """Every seed by name, where `seed` stands for what is not stated."""
        stated = {name: getattr(self, name) for name in SET_BY_SEED}
        trained = {name: seed if value is None else value for name, value in stated.items()}
        return {**trained, "split": self.split}


SeedsT = TypeVar("SeedsT", bound=Spec)


def complete_seeds(own: SeedsT, seed: int | None, defaults: Mapping[str, int]) -> SeedsT:
    """A stage's seeds: as it states them, else by its own `seed`, else the experiment's."""
    by_seed = {} if seed is None else dict.fromkeys(SET_BY_SEED, seed)
    known = {**defaults, **by_seed, **own.model_dump(exclude_none=True)}
    return own.model_copy(update={name: known[name] for name in type(own).model_fields})
