"""The forms of the field `validation`: where validation text comes from."""

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from continuum.experiment.fields import UNIT, Ref, Spec
from continuum.runs.artifacts import Artifact, Corpus, CorpusItem
from continuum.suggestions import nearest


class ByFraction(Spec):
    """A share of the text: randomly drawn documents, or the end of each document."""

    fraction: float = Field(
        gt=0, lt=1, json_schema_extra={UNIT: "share of the text"}, examples=[0.05]
    )
    """Share of the characters; an error if the split misses it by more than a quarter of the
    smaller side. Documents are drawn by a hash of `seeds.split` and their text, with duplicates on
    one side. If documents are too few or too long, the end of each validates, cut after a
    paragraph, line, sentence or word."""

    @classmethod
    def meant_by(cls, value: Any) -> dict[str, Any] | None:
        """`5%` is a fraction of 0.05."""
        share = re.fullmatch(r"\s*([0-9.]+)\s*%\s*", value) if isinstance(value, str) else None
        return {"fraction": float(share[1]) / 100} if share else None


class ByFiles(Spec):
    """Whole files of the corpus."""

    files: tuple[str, ...] = Field(min_length=1, examples=[["book2.txt"], ["*.md"]])
    """Names or globs of sources in the corpus, as full paths or file names: `book2.txt`, `*.md`."""

    @classmethod
    def meant_by(cls, value: Any) -> dict[str, Any] | None:
        """A path or a glob, or a list of them, are files; a plain word is a stage."""
        names = value if isinstance(value, (tuple, list)) else (value,)
        is_files = all(isinstance(it, str) and re.search(r"[./*?]", it) for it in names)
        return {"files": tuple(names)} if is_files else None


class ByCorpus(Spec):
    """A separate corpus."""

    corpus: Ref[Corpus]
    """Another stage's corpus, used completely."""


def _form(value: Any) -> str | None:
    """The tag of a form; the brackets distinguish it from keys."""
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
    """Notes on how a `fraction` will be applied, where the corpus already decides it."""
    if not isinstance(corpus, Corpus) or not isinstance(validation, ByFraction):
        return
    if len(corpus.items) == 1 and corpus.items[0].format != "jsonl":
        yield (
            "the corpus is one document, so its end is used for validation: "
            f"{validation.fraction:.3g} of the characters"
        )


def matches(item: CorpusItem, pattern: str) -> bool:
    """True if a name or glob matches the item's source or file, as a path or a file name."""
    names = {item.source, item.file}
    names |= {PurePosixPath(name).name for name in names}
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


def is_named(patterns: tuple[str, ...]) -> Callable[[CorpusItem], bool]:
    """A test whether any of the patterns matches an item."""
    return lambda item: any(matches(item, pattern) for pattern in patterns)


def file_problem(corpus: Corpus, validation: object) -> str | None:
    """The error in `validation.files`; None if there is none."""
    if not isinstance(validation, ByFiles):
        return None
    sources = ", ".join(item.source for item in corpus.items[:5])
    for pattern in validation.files:
        if not any(matches(item, pattern) for item in corpus.items):
            return f"validation.files: {pattern!r} matches no source; the corpus has {sources}"
    if all(map(is_named(validation.files), corpus.items)):
        return (
            f"validation.files: must not match the entire corpus ({sources}), or no text is left "
            "for training; name fewer files"
        )
    return None
