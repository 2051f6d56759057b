"""What a rule is, and what it looks at.

A rule is a function of the experiment and its plan that yields problems. Its docstring is what
`continuum explain CODE` prints: a sentence, the advice, and an example, wrong and right.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from continuum.experiment.fields import Ref
from continuum.experiment.recipe import Recipe
from continuum.lint.codes import code_of_docstring
from continuum.loading.codes import Code
from continuum.loading.keys import KeyPath
from continuum.loading.load import Loaded
from continuum.planning.leaks import models_of
from continuum.planning.plan import Plan, PlannedStage
from continuum.problems import Needs, Problem
from continuum.runs.artifacts import Checkpoint


@dataclass(frozen=True)
class Training:
    """A stage that trains."""

    name: str
    recipe: Recipe
    planned: PlannedStage

    @property
    def num_steps(self) -> int | None:
        """Optimizer steps of this stage alone; None while they are not known."""
        return self.planned.forecast.facts.get("steps")

    def path(self, *keys: str) -> KeyPath:
        """The path of a field of the stage."""
        return ("stages", self.name, *keys)


@dataclass(frozen=True)
class LintContext:
    """An experiment as it is written, and what a run of it would do."""

    loaded: Loaded
    plan: Plan

    @cached_property
    def trainings(self) -> dict[str, Training]:
        """The stages that train, each after its parents."""
        return {
            planned.name: Training(planned.name, planned.recipe, planned)
            for planned in self.plan
            if isinstance(planned.recipe, Recipe)
        }

    def parents(self, name: str) -> Iterator[Ref[Checkpoint]]:
        """The references to the models that a stage starts from."""
        return models_of(self.plan.stages[name])

    def is_written(self, path: KeyPath) -> bool:
        """Whether the document has a value there."""
        node: Any = self.loaded.tree
        for key in path:
            node = node.child(key) if node is not None else None
        return node is not None


Check = Callable[[LintContext], Iterator[Problem]]


@dataclass(frozen=True)
class Rule:
    """A code, the function that finds what breaks it, and what `explain` says."""

    code: str
    check: Check
    meaning: Code
    needs: Needs
    """With `folder`, findings come and go with the data that exists and the lock."""


RULES: dict[str, Rule] = {}
"""By their codes; filled when the modules that hold them are imported."""


def rule(code: str, *, needs: Needs = "spec") -> Callable[[Check], Check]:
    """Register a function as the rule of a code."""

    def register(check: Check) -> Check:
        RULES[code] = Rule(code, check, code_of_docstring(check.__doc__ or ""), needs)
        return check

    return register
