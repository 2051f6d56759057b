"""Validation text that a model is trained on, by this stage or by one that it descends from.

Before there are tokens, whole files are compared, as the plan knows them; then single documents, by
the digests that each dataset lists.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from continuum.artifacts import Checkpoint, Corpus, CorpusItem, TokenizedDataset
from continuum.errors import IntegrityError
from continuum.lint.texts import leaking_text, training_part, validation_part
from continuum.plan import Plan, PlannedStage
from continuum.recipe import Recipe
from continuum.stage import Ref
from continuum.stages.tokenize import Tokenize


@dataclass(frozen=True)
class Leak:
    """A dataset whose validation loss shows, in part, what was learned by heart."""

    evaluated: str
    """The stage that made it."""
    message: str


def find_leaks(
    plan: Plan,
    trained_on: Mapping[str, frozenset[str]],
    name: str,
    but: Collection[str] = (),
) -> Iterator[Leak]:
    """The leaks of a training stage that evaluates, one for each dataset at most.

    Args:
        trained_on: Of `datasets_trained_on`.
        name: The stage's.
        but: Datasets that are not looked at.
    """
    recipe = plan.stages[name].recipe
    if not isinstance(recipe, Recipe) or recipe.evaluate is None:
        return
    for evaluated in sorted({ref.stage for ref in recipe.all_data}.difference(but)):
        message = _leak(plan.stages, evaluated, sorted(trained_on[name]))
        if message is not None:
            yield Leak(evaluated, message)


def datasets_trained_on(plan: Plan) -> dict[str, frozenset[str]]:
    """By the name of each stage, those that train its model, here or before."""
    found: dict[str, frozenset[str]] = {}
    for planned in plan:
        recipe = planned.recipe
        own = {ref.stage for ref in recipe.data} if isinstance(recipe, Recipe) else set()
        before = (found[ref.stage] for ref in models_of(planned))
        found[planned.name] = frozenset(own).union(*before)
    return found


def models_of(planned: PlannedStage) -> Iterator[Ref[Any]]:
    """The references to the models that a stage starts from."""
    for ref in planned.stage.refs().values():
        if issubclass(ref.expects, Checkpoint):
            yield ref


def dataset_of(planned: PlannedStage) -> TokenizedDataset | None:
    """What the stage has made; None where it has not, or where that is damaged."""
    try:
        artifact = planned.run.artifact() if planned.run.is_complete else None
    except IntegrityError:  # the plan says so
        return None
    return artifact if isinstance(artifact, TokenizedDataset) else None


def _leak(
    stages: Mapping[str, PlannedStage], evaluated: str, trained_on: Iterable[str]
) -> str | None:
    validation = validation_part(stages, evaluated)
    for name in trained_on if validation is not None else ():
        training = training_part(stages, name)
        source = leaking_text(training, validation) if training and validation else None
        if source is not None:
            return (
                f"the validation text of {evaluated!r} is training text of {name!r} too "
                f"({source}): the loss on it shows what was learned by heart"
            )
    dataset = dataset_of(stages[evaluated])
    leaks = dataset.leaks() if dataset is not None else None
    leaks = leaks or _shared_documents(stages, evaluated, trained_on)
    if leaks is None:
        return None
    return f"in {evaluated!r}, {leaks}: the loss on them shows what was learned by heart"


def _shared_documents(
    stages: Mapping[str, PlannedStage], evaluated: str, trained_on: Iterable[str]
) -> str | None:
    """Documents that validate in one dataset and train in another, in words."""
    made = dataset_of(stages[evaluated])
    if made is None or made.validation is None:
        return None
    for name in trained_on:
        trained = dataset_of(stages[name])
        if trained is None or trained.digest == made.digest:
            continue
        from continuum.text.overlap import Listed, find_overlap

        overlap = find_overlap(
            Listed(trained.documents_dir, _texts(stages, name)),
            Listed(made.documents_dir, _texts(stages, evaluated)),
        )
        if overlap is not None and overlap.num_documents:
            return overlap.describe(made.validation.num_documents, of=repr(name))
    return None


def _texts(stages: Mapping[str, PlannedStage], name: str) -> list[CorpusItem]:
    """What a dataset's documents are in, in its order; nothing where a corpus is not there."""
    stage = stages[name].stage
    found: list[CorpusItem] = []
    for ref in stage.corpora if isinstance(stage, Tokenize) else ():
        try:
            corpus = stages[ref.stage].run.artifact()
        except IntegrityError:
            return []
        found += corpus.items if isinstance(corpus, Corpus) else []
    return found
