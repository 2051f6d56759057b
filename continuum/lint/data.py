"""Rules about the data: W001 repeated data, W006 evaluation on training data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from continuum.errors import Problem
from continuum.experiment.recipe import ResumeSchedule
from continuum.lint.rules import LintContext, Training, rule
from continuum.loading.keys import KeyPath
from continuum.planning.leaks import LeakFinder, dataset_of
from continuum.planning.plan import PlannedStage

ROUNDING = 1.001
"""More passes than this are more than one."""


@dataclass(frozen=True)
class Exposure:
    """Lower bound of the passes over each dataset that a model has seen when a stage ends."""

    before: Mapping[str, float]
    """In its ancestors."""
    own: Mapping[str, float]
    """In the stage itself."""
    own_steps: int = 0
    start_step: int = 0

    def until(self, step: int | None) -> dict[str, float]:
        """Return the passes at a step of the stage; None is its end."""
        share = 1.0
        if step is not None and self.own_steps:
            share = min(1.0, max(0.0, (step - self.start_step) / self.own_steps))
        names = self.before.keys() | self.own.keys()
        return {n: self.before.get(n, 0.0) + share * self.own.get(n, 0.0) for n in names}


@rule("W001", needs="folder")
def repeated_data(context: LintContext) -> Iterator[Problem]:
    """Repeated training data.

    A second pass teaches less than new text, and after about four passes nearly nothing
    (Muennighoff et al. 2023, Scaling Data-Constrained Language Models). Passes are counted through
    `resume` and `retrain`, and are a lower bound until the dataset exists. A `retrain` that
    restarts, or has another data seed or sequence length than its model had, repeats text before
    it has read all of it. Add text, lower the budget, or allow the warning if it is intended.

    Wrong:
        tokens: {kind: tokenize, corpus: one_book, …}   # about 200k tokens
        pretrain: {kind: pretrain, data: tokens, max_tokens: 1M, …}
    Right:
        tokens: {kind: tokenize, corpus: one_book, …}
        pretrain: {kind: pretrain, data: tokens, max_tokens: 200k, …}
    """
    exposures = _exposures(context)
    for name, training in context.trainings.items():
        seen = exposures[name]
        for dataset, own in seen.own.items():
            before = seen.before.get(dataset, 0.0)
            restarts = _why_restarts(context, training, dataset) if before else ""
            if own > ROUNDING or before <= ROUNDING < before + own:
                path, at_key = _where(training, dataset)
                yield Problem(path, _repetition(dataset, own, before), at_key=at_key)
            elif restarts and before <= ROUNDING:
                path, at_key = _where(training, dataset)
                if restarts.startswith("data_position"):
                    path, at_key = training.path("data_position"), False
                message = (
                    f"{dataset!r} is read from the start again, {own:.3g} times, after "
                    f"{before:.3g} times in earlier stages: {restarts}"
                )
                yield Problem(path, message, at_key=at_key)


@rule("W006", needs="folder")
def evaluation_on_training_data(context: LintContext) -> Iterator[Problem]:
    """Evaluation on training data.

    The validation text of a dataset is training text of another dataset that the model or one of
    its ancestors has seen, so its loss measures memorization. The check compares the files of the
    corpora (by SHA-256 if known) and how `validation` splits them; for datasets that exist, it
    compares documents by SHA-256. The overlap at the start of a stage is in its `stage.json`.

    Wrong:
        old: {kind: tokenize, corpus: books, validation: {fraction: 0.05}, …}
        new: {kind: tokenize, corpus: books, validation: {fraction: 0.1}, …}
        pretrain: {kind: pretrain, data: old, …}
        retrain: {kind: retrain, from: pretrain, data: new, …}
    Right:
        old: {kind: tokenize, corpus: books, validation: {fraction: 0.1}, …}
        new: {kind: tokenize, corpus: books, validation: {fraction: 0.1}, …}
        pretrain: {kind: pretrain, data: old, …}
        retrain: {kind: retrain, from: pretrain, data: new, …}
    """
    leaks = LeakFinder(context.plan)
    reported: set[str] = set()
    for name, training in context.trainings.items():
        for leak in leaks.find(name, but=reported):
            reported.add(leak.evaluated)
            yield Problem(_evaluation_path(context, training, leak.evaluated), leak.message)
    for name, stage in context.plan.experiment.stages.items():
        places = {ref.stage: path for path, ref in stage.refs().items()}
        for leak in leaks.find(name, but=reported) if stage.evaluated_texts() else ():
            yield Problem(("stages", name, *places[leak.evaluated]), leak.message)


def _exposures(context: LintContext) -> dict[str, Exposure]:
    """The exposure at the end of every stage, parents first."""
    found: dict[str, Exposure] = {}
    for planned in context.plan:
        before: dict[str, float] = {}
        for ref in context.parents(planned.name):
            for dataset, passes in found[ref.stage].until(ref.step).items():
                before[dataset] = max(passes, before.get(dataset, 0.0))
        training = context.trainings.get(planned.name)
        if training is None:
            found[planned.name] = Exposure(before, {})
            continue
        own_steps = training.num_steps or 0
        found[planned.name] = Exposure(
            before,
            dict(_own_passes(context, training, before)),
            own_steps,
            (planned.forecast.num_steps or 0) - own_steps,
        )
    return found


def _own_passes(
    context: LintContext, training: Training, before: Mapping[str, float]
) -> Iterator[tuple[str, float]]:
    recipe, num_steps = training.recipe, training.num_steps
    if num_steps is None:
        if recipe.epochs is not None and len(recipe.data) == 1:
            (ref,) = recipe.data
            is_total = isinstance(recipe.schedule, ResumeSchedule)
            yield ref.stage, recipe.epochs - (before.get(ref.stage, 0.0) if is_total else 0.0)
        return
    total = sum(recipe.data.values())
    for ref, weight in recipe.data.items():
        num_blocks = _most_blocks(context.plan.stages[ref.stage], recipe.sequence_length)
        if num_blocks:
            samples = num_steps * recipe.global_batch_size * weight / total
            yield ref.stage, samples / num_blocks


def _most_blocks(planned: PlannedStage, sequence_length: int) -> int | None:
    """Maximum number of training blocks of a dataset; None if unknown."""
    artifact = dataset_of(planned)
    if artifact is not None:
        return artifact.train.num_blocks(sequence_length)
    tokens = planned.forecast.max_tokens.get("train")
    return None if tokens is None else tokens // (sequence_length + 1)


def _repetition(dataset: str, own: float, before: float) -> str:
    times = own if own > ROUNDING else own + before
    text = f"{dataset!r} is read at least {times:.3g} times"
    if before:
        text += f", {before:.3g} of them" if own <= ROUNDING else f", and {before:.3g} times"
        text += " in earlier stages"
    return text


def _why_restarts(context: LintContext, training: Training, dataset: str) -> str:
    """Why a stage reads a dataset from the start that its model has already read."""
    made = dataset_of(context.plan.stages[dataset])
    key = made.digest if made is not None else dataset
    found = training.planned.forecast.reading.get(key)
    return found.restarts if found is not None else ""


def _where(training: Training, dataset: str) -> tuple[KeyPath, bool]:
    """The key of a mixture, which sets the share of its dataset; else the budget."""
    if len(training.recipe.data) > 1 and not isinstance(training.recipe.schedule, ResumeSchedule):
        key = next(str(ref) for ref in training.recipe.data if ref.stage == dataset)
        return training.path("data", key), True
    return training.path(training.recipe.budget.partition(" ")[0]), False


def _evaluation_path(context: LintContext, training: Training, dataset: str) -> KeyPath:
    """The path of the evaluation: the field if it is set, else the data."""
    if context.is_written(training.path("evaluate")):
        return training.path("evaluate")
    if context.is_written(training.path("data", dataset)):
        return training.path("data", dataset)
    return training.path("data")
