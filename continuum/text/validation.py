"""`validation`: the forms in which it is stated where validation text comes from."""

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from continuum.experiment.stage import UNIT, Ref, Spec
from continuum.runs.artifacts import Artifact, Corpus, CorpusItem
from continuum.suggestions import nearest


class ByFraction(Spec):
    """A share of the text: documents that are drawn, or the end of each."""

    fraction: float = Field(
        gt=0, lt=1, json_schema_extra={UNIT: "share of the text"}, examples=[0.05]
    )
    """Share of the characters, kept within a quarter of the smaller side or refused. Documents
    drawn by a hash of `seeds.split` and their text, equal ones on one side; of a corpus of few or
    long documents the end of each, cut after a paragraph, line, sentence or word."""


class ByFiles(Spec):
    """Whole files of the corpus."""

    files: tuple[str, ...] = Field(min_length=1, examples=[["book2.txt"], ["*.md"]])
    """Names or globs of the corpus' sources, in full or by their last part: `book2.txt`, `*.md`."""


class ByCorpus(Spec):
    """Texts of their own."""

    corpus: Ref[Corpus]
    """Another stage's corpus, all of it."""


def _form(value: Any) -> str | None:
    """The tag of a form, in brackets that keep it apart from keys."""
    if isinstance(value, str):
        return "[none]"
    keys = value.keys() if isinstance(value, dict) else getattr(type(value), "model_fields", ())
    found = (nearest(key, ("fraction", "files", "corpus")) for key in keys)
    return next((f"[{key}]" for key in found if key), None)


Validation = Annotated[
    Annotated[ByFraction, Tag("[fraction]")]
    | Annotated[ByFiles, Tag("[files]")]
    | Annotated[ByCorpus, Tag("[corpus]")]
    | Annotated[Literal["none"], Tag("[none]")],
    Discriminator(
        _form,
        custom_error_type="validation_form",
        custom_error_message="Input should be {{fraction: 0.05}}, {{files: [name or glob]}}, "
        "{{corpus: stage}}, or none",
    ),
]


def known_mode(corpus: Artifact | None, validation: object) -> Iterator[str]:
    """How a `fraction` will be carried out, where that is sure."""
    if not isinstance(corpus, Corpus) or not isinstance(validation, ByFraction):
        return
    if len(corpus.items) == 1 and corpus.items[0].format != "jsonl":
        yield (
            f"the corpus is one document, so its end validates, {validation.fraction:.3g} of the "
            "characters"
        )


def matches(item: CorpusItem, pattern: str) -> bool:
    """Whether a name or glob means this item: its source or file, in full or by its last part."""
    names = {item.source, item.file}
    names |= {PurePosixPath(name).name for name in names}
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


def is_named(patterns: tuple[str, ...]) -> Callable[[CorpusItem], bool]:
    return lambda item: any(matches(item, pattern) for pattern in patterns)


def file_problem(corpus: Corpus, validation: object) -> str | None:
    """What is wrong with the files named for validation; None when nothing is."""
    if not isinstance(validation, ByFiles):
        return None
    sources = ", ".join(item.source for item in corpus.items[:5])
    for pattern in validation.files:
        if not any(matches(item, pattern) for item in corpus.items):
            return f"validation.files: {pattern!r} matches nothing; the corpus has {sources}"
    if all(map(is_named(validation.files), corpus.items)):
        return (
            f"validation.files: all of the corpus ({sources}) is named, so nothing is left to "
            "train on; name fewer files"
        )
    return None
