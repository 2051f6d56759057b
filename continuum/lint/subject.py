"""What rules look at, and what they answer."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from continuum.artifacts import Checkpoint
from continuum.lint.leaks import models_of
from continuum.plan import Plan, PlannedStage
from continuum.recipe import Recipe
from continuum.spec.diagnostics import OVERRIDE, Diagnostic
from continuum.spec.experiment import Document
from continuum.spec.known import KeyPath
from continuum.stage import Ref


@dataclass(frozen=True)
class Finding:
    """Something unwise, at a path of the document."""

    path: KeyPath
    message: str
    suggestion: str | None = None
    at_key: bool = False
    """Whether the key is meant rather than the value."""
    is_secret: bool = False
    """Whether the value must not be shown."""


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
class Subject:
    """An experiment as it is written, and what a run of it would do."""

    document: Document
    plan: Plan

    @cached_property
    def trainings(self) -> dict[str, Training]:
        """The stages that train, each after its parents."""
        return {
            planned.name: Training(planned.name, planned.recipe, planned)
            for planned in self.plan
            if isinstance(planned.recipe, Recipe)
        }

    @cached_property
    def refs(self) -> dict[str, tuple[Ref[Any], ...]]:
        """What each stage refers to by its own fields."""
        return {planned.name: tuple(planned.stage.refs().values()) for planned in self.plan}

    @cached_property
    def selected_steps(self) -> dict[str, set[int]]:
        """Steps of each stage whose checkpoints others ask for."""
        selected: dict[str, set[int]] = {}
        for ref in (ref for refs in self.refs.values() for ref in refs):
            if ref.step is not None:
                selected.setdefault(ref.stage, set()).add(ref.step)
        return selected

    def parents(self, name: str) -> Iterator[Ref[Checkpoint]]:
        """The references to the models that a stage starts from."""
        return models_of(self.plan.stages[name])

    def is_written(self, path: KeyPath) -> bool:
        """Whether the document has a value there."""
        node = self.document.root
        for key in path:
            below = node.child(key)
            if below is None:
                return False
            node = below
        return True

    def diagnostic(self, code: str, finding: Finding) -> Diagnostic:
        """The finding with its place; a secret of an override is masked."""
        made = self.document.diagnostic(
            code, finding.path, finding.message, finding.suggestion, at_key=finding.at_key
        )
        made = replace(made, severity="warning", shows_source=not finding.is_secret)
        if finding.is_secret and made.place.is_override:
            path = made.place.file.removeprefix(OVERRIDE).partition("=")[0]
            made = replace(made, place=replace(made.place, file=f"{OVERRIDE}{path}=…"))
        return made


@dataclass(frozen=True)
class Rule:
    """A code and the function that finds its mistakes."""

    code: str
    check: Callable[[Subject], Iterable[Finding]]
    depends_on_folder: bool = False
    """Whether findings come and go with the data that exists, the lock, the room on the disk."""
