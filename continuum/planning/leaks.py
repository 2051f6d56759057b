"""Find validation text that a model is trained on, in this stage or in one it descends from.

Before the datasets exist, the files that the plan knows are compared; then single documents, by the
digests that each dataset lists.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from continuum.errors import IntegrityError
from continuum.experiment.fields import Ref
from continuum.experiment.forecast import Text, TextPart
from continuum.experiment.recipe import Recipe
from continuum.planning.plan import Plan, PlannedStage
from continuum.runs.artifacts import DOCUMENTS, Checkpoint, Corpus, CorpusItem, TokenizedDataset
from continuum.runs.files import find_wrong_sizes

WILDCARDS = "*?["


@dataclass(frozen=True)
class Leak:
    """A dataset whose validation loss partly measures memorization."""

    evaluated: str
    """The stage that makes the dataset."""
    message: str


class LeakFinder:
    """Finds the leaks in a plan. Two datasets are compared once."""

    def __init__(self, plan: Plan) -> None:
        self._stages = plan.stages
        self._trained_on = _datasets_trained_on(plan)
        self._compared: dict[tuple[str, str], str | None] = {}

    def find(self, name: str, but: Collection[str] = ()) -> Iterator[Leak]:
        """Find the leaks of a stage that evaluates, at most one for each text.

        The datasets it reads, and those its model was trained on before, are compared as they are
        at the first call.

        Args:
            name: The stage's name.
            but: Texts to skip.
        """
        planned = self._stages[name]
        refs = planned.stage.evaluated_texts()
        if isinstance(planned.recipe, Recipe) and planned.recipe.evaluate is not None:
            refs = planned.recipe.all_data
        for evaluated in sorted({ref.stage for ref in refs}.difference(but)):
            found = (self._compare(it, evaluated) for it in sorted(self._trained_on[name]))
            message = next(filter(None, found), None)
            if message is not None:
                yield Leak(evaluated, message)

    def _compare(self, trained: str, evaluated: str) -> str | None:
        pair = (trained, evaluated)
        if pair not in self._compared:
            self._compared[pair] = _leak(self._stages, trained, evaluated)
        return self._compared[pair]


def _datasets_trained_on(plan: Plan) -> dict[str, frozenset[str]]:
    """The datasets that train each stage's model, in that stage or before."""
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
    """The dataset that the stage has made; None if there is none or it is damaged."""
    try:
        artifact = planned.run.artifact() if planned.run.is_complete else None
    except IntegrityError:  # the plan reports it
        return None
    return artifact if isinstance(artifact, TokenizedDataset) else None


def _leak(stages: Mapping[str, PlannedStage], trained: str, evaluated: str) -> str | None:
    """Describe the evaluated text of one dataset or corpus that another, or the same, trains on."""
    training = stages[trained].stage.training_texts()
    stage = stages[evaluated].stage
    is_corpus = Corpus in stage.output_types()
    validation = TextPart(Ref(evaluated)) if is_corpus else stage.validation_texts()
    source = _leaking_text(stages, training, validation) if training and validation else None
    if source is not None:
        return (
            f"the {'' if is_corpus else 'validation '}text of {evaluated!r} is also training text "
            f"of {trained!r} "
            f"({source}): its loss measures memorization (train/validation overlap)"
        )
    documents = _leaked_documents(stages, trained, evaluated)
    if documents is None:
        return None
    return (
        f"in {evaluated!r}, {documents}: their loss measures memorization "
        "(train/validation overlap)"
    )


def _leaking_text(
    stages: Mapping[str, PlannedStage], training: TextPart, validation: TextPart
) -> str | None:
    """A text that is partly in both; None if there is none. A copy is named with its original."""
    by_digest: dict[str | None, list[Text]] = {}
    by_name: dict[str, list[Text]] = {}
    for text in _texts(stages, training):
        by_digest.setdefault(text.sha256, []).append(text)
        by_name.setdefault(text.source, []).append(text)
    for text in sorted(_texts(stages, validation), key=lambda it: it.source):
        alike = by_digest.get(text.sha256, []) if text.sha256 else []
        for trained in (*by_name.get(text.source, []), *alike):
            if text.is_same(trained) and _leaks(trained.source, text.source, training, validation):
                is_copy = trained.source != text.source
                return f"{text.source}, a copy of {trained.source}" if is_copy else text.source
    return None


def _texts(stages: Mapping[str, PlannedStage], part: TextPart) -> tuple[Text, ...]:
    corpus = part.corpus.stage
    return stages[corpus].forecast.texts or (Text(f"corpus {corpus!r}"),)


def _leaks(trained: str, validated: str, training: TextPart, validation: TextPart) -> bool:
    if training.fraction is not None and validation.fraction is not None:
        return validation.fraction > training.fraction
    if trained == validated and any(wildcard in trained for wildcard in WILDCARDS):
        held_out, wanted = training.files or (), validation.files
        return not held_out or wanted is None or not all(_matches(p, held_out) for p in wanted)
    is_held_out = training.files is not None and _matches(trained, training.files)
    is_wanted = validation.files is None or _matches(validated, validation.files)
    return is_wanted and not is_held_out


def _matches(source: str, patterns: tuple[str, ...]) -> bool:
    names = {source, PurePosixPath(source).name}
    return any(name == p or fnmatchcase(name, p) for name in names for p in patterns)


def _leaked_documents(
    stages: Mapping[str, PlannedStage], trained: str, evaluated: str
) -> str | None:
    """Describe the leaked documents, once both datasets exist."""
    training, validation = dataset_of(stages[trained]), dataset_of(stages[evaluated])
    if training is None or validation is None or validation.validation is None:
        return None
    if training.digest == validation.digest:  # compared when the dataset was made
        return validation.leaks()
    if not (_has_whole_list(training) and _has_whole_list(validation)):
        return None
    from continuum.text.documents import Listed, find_overlap

    overlap = find_overlap(
        Listed(training.documents_dir, corpus_items(stages, trained)),
        Listed(validation.documents_dir, corpus_items(stages, evaluated)),
    )
    if not overlap.num_documents:
        return None
    return overlap.describe(validation.validation.num_documents, of=repr(trained))


def _has_whole_list(dataset: TokenizedDataset) -> bool:
    """False if the dataset is damaged, or was made by a release that lists no documents."""
    sizes = {it.path: it.size_bytes for it in dataset.files if it.path.startswith(f"{DOCUMENTS}/")}
    return bool(sizes) and not find_wrong_sizes(str(dataset.path), sizes.items())


def corpus_items(stages: Mapping[str, PlannedStage], name: str) -> list[CorpusItem]:
    """The items of a dataset's corpora, in order; none if a corpus is missing or has changed."""
    dataset = stages[name]
    found: list[CorpusItem] = []
    parts = (dataset.stage.training_texts(), dataset.stage.validation_texts())
    corpora = dict.fromkeys(part.corpus for part in parts if part is not None)
    try:
        record = dataset.run.record()
        for ref in corpora:
            corpus = stages[ref.stage].run.artifact()
            used = record.input(str(ref), stages[ref.stage].fingerprint)
            if not isinstance(corpus, Corpus) or used is None or used.digest != corpus.digest:
                return []
            found += corpus.items
    except IntegrityError:
        return []
    return found
