"""Rules: functions of the experiment and its plan that yield problems.

The docstring of a rule is printed by `continuum explain CODE`: a sentence, the advice, and an
example, wrong and right.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from continuum.errors import Needs, Problem
from continuum.experiment.fields import Ref
from continuum.experiment.recipe import Recipe
from continuum.lint.codes import code_of_docstring
from continuum.loading.codes import Code
from continuum.loading.keys import KeyPath
from continuum.loading.load import Loaded
from continuum.planning.leaks import models_of
from continuum.planning.plan import Plan, PlannedStage
from continuum.runs.artifacts import Checkpoint


@dataclass(frozen=True)
class Training:
    """A stage that trains."""

    name: str
    recipe: Recipe
    planned: PlannedStage

    @property
    def num_steps(self) -> int | None:
        """Number of optimizer steps of this stage alone; None if not known yet."""
        return self.planned.forecast.facts.get("steps")

    def path(self, *keys: str) -> KeyPath:
        """Return the path of a field of the stage."""
        return ("stages", self.name, *keys)


@dataclass(frozen=True)
class LintContext:
    """An experiment and its plan, as rules see them."""

    loaded: Loaded
    plan: Plan

    @cached_property
    def trainings(self) -> dict[str, Training]:
        """The stages that train, parents first."""
        return {
            planned.name: Training(planned.name, planned.recipe, planned)
            for planned in self.plan
            if isinstance(planned.recipe, Recipe)
        }

    def parents(self, name: str) -> Iterator[Ref[Checkpoint]]:
        """Yield the references to the models that a stage starts from."""
        return models_of(self.plan.stages[name])

    def is_written(self, path: KeyPath) -> bool:
        """Return True if the document has a value at the path."""
        tree = self.loaded.tree
        return tree is not None and tree.at(path) is not None


Check = Callable[[LintContext], Iterator[Problem]]


@dataclass(frozen=True)
class Rule:
    """A code, its function, and its explanation."""

    code: str
    check: Check
    meaning: Code
    needs: Needs
    """With `folder`, the warnings depend on existing data and the lock."""


RULES: dict[str, Rule] = {}
"""Rules by code; filled when their modules are imported."""


def rule(code: str, *, needs: Needs = "spec") -> Callable[[Check], Check]:
    """Register a function as the rule of a code."""

    def register(check: Check) -> Check:
        RULES[code] = Rule(code, check, code_of_docstring(check.__doc__ or ""), needs)
        return check

    return register
