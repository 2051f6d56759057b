"""Which texts a dataset trains and validates on, as far as the spec tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from continuum.stage import Stage
from continuum.stages.fetch import Fetch, Source
from continuum.stages.import_ import Import
from continuum.stages.tokenize import ByCorpus, ByFiles, ByFraction, Tokenize

WILDCARDS = "*?["


@dataclass(frozen=True)
class Part:
    """A part of a corpus: all of it, or one side of a division."""

    sources: frozenset[str]
    """The texts by where they come from."""
    fraction: float | None = None
    """Of each text, this much at its end is for validation."""
    files: tuple[str, ...] | None = None
    """The texts of these names or globs are for validation."""


def training_part(stages: Mapping[str, Stage], stage: Stage) -> Part | None:
    """What a dataset trains on; None where the spec does not tell."""
    if not isinstance(stage, Tokenize):
        return None
    sources = _sources(stages, stage.corpus.stage)
    if isinstance(stage.validation, ByFraction):
        return Part(sources, fraction=stage.validation.fraction)
    if isinstance(stage.validation, ByFiles):
        return Part(sources, files=stage.validation.files)
    return Part(sources)


def validation_part(stages: Mapping[str, Stage], stage: Stage) -> Part | None:
    """What a dataset validates on; None where there is nothing, or the spec does not tell."""
    if not isinstance(stage, Tokenize) or stage.validation == "none":
        return None
    if isinstance(stage.validation, ByCorpus):
        return Part(_sources(stages, stage.validation.corpus.stage))
    return training_part(stages, stage)


def leaking_source(training: Part, validation: Part) -> str | None:
    """A text of which some is in both, each part on its own side; None if there is none."""
    for source in sorted(training.sources & validation.sources):
        if _leaks(source, training, validation):
            return source
    return None


def _leaks(source: str, training: Part, validation: Part) -> bool:
    if training.fraction is not None and validation.fraction is not None:
        return validation.fraction > training.fraction
    if any(wildcard in source for wildcard in WILDCARDS):
        held_out, wanted = training.files or (), validation.files
        return not held_out or wanted is None or not all(_matches(p, held_out) for p in wanted)
    is_held_out = training.files is not None and _matches(source, training.files)
    is_wanted = validation.files is None or _matches(source, validation.files)
    return is_wanted and not is_held_out


def _matches(source: str, patterns: tuple[str, ...]) -> bool:
    names = {source, PurePosixPath(source).name}
    return any(name == p or fnmatchcase(name, p) for name in names for p in patterns)


def _sources(stages: Mapping[str, Stage], corpus: str) -> frozenset[str]:
    stage = stages[corpus]
    if isinstance(stage, Fetch):
        return frozenset(_source(source) for source in stage.sources)
    if isinstance(stage, Import):
        return frozenset({str(stage.path)})
    return frozenset({f"corpus {corpus!r}"})


def _source(source: Source) -> str:
    return str(source.path or source.url or source.python)
