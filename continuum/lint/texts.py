"""Which texts a dataset trains and validates on, as far as the plan knows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from continuum.plan import PlannedStage
from continuum.stage import Text, TextPart

WILDCARDS = "*?["


@dataclass(frozen=True)
class Part:
    """A part of a corpus: all of it, or one side of a division."""

    texts: tuple[Text, ...]
    fraction: float | None = None
    """So much is for validation: documents that are drawn, or the end of each."""
    files: tuple[str, ...] | None = None
    """The texts of these names or globs are for validation."""


def training_part(stages: Mapping[str, PlannedStage], name: str) -> Part | None:
    """What a dataset trains on; None where the plan does not know."""
    return _part(stages, stages[name].stage.training_texts())


def validation_part(stages: Mapping[str, PlannedStage], name: str) -> Part | None:
    """What a dataset validates on; None where there is nothing, or the plan does not know."""
    return _part(stages, stages[name].stage.validation_texts())


def _part(stages: Mapping[str, PlannedStage], part: TextPart | None) -> Part | None:
    if part is None:
        return None
    corpus = part.corpus.stage
    texts = stages[corpus].forecast.texts or (Text(f"corpus {corpus!r}"),)
    return Part(texts, part.fraction, part.files)


def leaking_text(training: Part, validation: Part) -> str | None:
    """A text of which some is in both, each part on its own side; None if there is none.

    A copy is named beside what it is a copy of.
    """
    by_digest: dict[str | None, list[Text]] = {}
    by_name: dict[str, list[Text]] = {}
    for text in training.texts:
        by_digest.setdefault(text.sha256, []).append(text)
        by_name.setdefault(text.source, []).append(text)
    for text in sorted(validation.texts, key=lambda it: it.source):
        alike = by_digest.get(text.sha256, []) if text.sha256 else []
        for trained in (*by_name.get(text.source, []), *alike):
            if text.is_same(trained) and _leaks(trained.source, text.source, training, validation):
                is_copy = trained.source != text.source
                return f"{text.source}, a copy of {trained.source}" if is_copy else text.source
    return None


def _leaks(trained: str, validated: str, training: Part, validation: Part) -> bool:
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
