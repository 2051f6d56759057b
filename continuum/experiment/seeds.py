"""Seeds: each controls one thing, so that changing it reruns nothing else.

`init` draws a new model's weights, `data` the order of the samples, `split` the validation
documents. `seed` sets `init` and `data` but not `split`: runs with several training seeds share
their tokens and are evaluated on the same text. A stage kind has a field `seeds` whose type
contains exactly the seeds it uses.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field

from continuum.experiment.fields import WHOLE, Spec

SET_BY_SEED = ("init", "data")
"""The seeds that `seed` sets."""
Seed = Annotated[int, Field(ge=0, lt=2**32), WHOLE]


class _AnySeeds(Spec):
    """Seeds by name."""

    @classmethod
    def meant_by(cls, value: Any) -> dict[str, Any]:
        """The value for those that `seed` sets, or for all."""
        names = [name for name in cls.model_fields if name in SET_BY_SEED]
        return dict.fromkeys(names or cls.model_fields, value)


class SplitSeeds(_AnySeeds):
    """The seed of a random split."""

    split: Seed | None = None
    """Draws the validation documents of a `fraction`."""


class OrderSeeds(_AnySeeds):
    """The seed of a training that starts from weights."""

    data: Seed | None = None
    """Draws the order of the samples; default: `seed`."""


class TrainingSeeds(OrderSeeds):
    """The seeds of a training from scratch."""

    init: Seed | None = None
    """Draws the initial weights of a new model; default: `seed`."""


class Seeds(TrainingSeeds):
    """The seeds of an experiment."""

    split: Seed = 0
    """Draws the validation documents; `seed` does not set it, so that the tokens stay the same."""

    def with_seed(self, seed: int) -> dict[str, int]:
        """All seeds by name, with `seed` for those that are not set."""
        stated = {name: getattr(self, name) for name in SET_BY_SEED}
        trained = {name: seed if value is None else value for name, value in stated.items()}
        return {**trained, "split": self.split}


SeedsT = TypeVar("SeedsT", bound=Spec)


def complete_seeds(own: SeedsT, seed: int | None, defaults: Mapping[str, int]) -> SeedsT:
    """A stage's seeds: its own, else its `seed`, else those of the experiment."""
    by_seed = {} if seed is None else dict.fromkeys(SET_BY_SEED, seed)
    known = {**defaults, **by_seed, **own.model_dump(exclude_none=True)}
    return own.model_copy(update={name: known[name] for name in type(own).model_fields})
