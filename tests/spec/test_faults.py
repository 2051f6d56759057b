"""Constraints that no built-in kind has now, but another may."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, StringConstraints, ValidationError

from continuum.fields import Spec
from continuum.spec.diagnostics import Diagnostic, Place
from continuum.spec.faults import Faults
from continuum.spec.keys import field_names, right_place, suggest
from continuum.spec.source import read_text


class Inner(Spec):
    size: int = Field(1, multiple_of=8)
    """In bytes."""


class Outer(Spec):
    inner: Inner = Inner()
    parts: tuple[int, ...] = Field((1, 2), min_length=2, max_length=3)
    word: Annotated[str, StringConstraints(max_length=4)] = "a"
    choice: Literal["a", "b"] | Inner | None = None
    by_name: dict[str, Inner | tuple[Inner, ...]] = Field({})


def mistakes(text: str) -> list[Diagnostic]:
    root = read_text(text, Place("spec.yaml", 1, 1, Path()), [])
    faults = Faults(root)
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(root.plain())
    faults.add_all(Outer, caught.value, ())
    return faults.found


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("parts: [1]", "E104", "parts needs at least 2"),
        ("parts: [1, 2, 3, 4]", "E104", "parts may have at most 3 items"),
        ("parts: [1, x]", "E103", "parts[1] should be a whole number, not 'x'"),
        ("parts: [1, 42.0]", "E103", "parts[1] should be a whole number, not 42.0"),
        ("parts: [1, 1e3]", "E103", "parts[1] should be a whole number, not 1000.0"),
        ("parts: [1, 1234567.5]", "E103", "parts[1] should be a whole number, not 1234567.5"),
        ("word: banana", "E104", "word may have at most 4 letters"),
        ("inner: {size: 12}", "E104", "size should be a multiple of 8, not 12"),
        (
            "choice: c",
            "E104",
            "choice should be one of a, b, or a mapping with one of size, not 'c'",
        ),
        ("choice: {size: 12}", "E104", "size should be a multiple of 8, not 12"),
        ("by_name: {x: 3}", "E103", "x should be a mapping with size or a list, not 3"),
        ("by_name: {x: [{siz: 3}]}", "E101", "unknown key 'siz' in 'x[0]'"),
    ],
)
def test_a_constraint_is_told_in_words(text: str, code: str, message: str) -> None:
    (found,) = mistakes(text)
    assert found.code == code
    assert message in found.message


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("Kind", ["kind", "king"], "kind"),
        ("max-tokens", ["max_tokens", "max_steps"], "max_tokens"),
        ("from_", ["form", "from"], "from"),
        ("optimiser", ["optimizer", "schedule"], "optimizer"),
        ("zzz", ["optimizer"], None),
    ],
)
def test_a_suggestion_is_the_same_word_or_the_closest(
    word: str, known: list[str], meant: Any
) -> None:
    assert suggest(word, known) == meant


def test_keys_are_known_at_every_depth() -> None:
    assert field_names(Outer, ("by_name", "x", 0)) == ("size",)
    assert field_names(Outer, ("inner",)) == ("size",)


def test_a_key_at_the_wrong_level_is_sent_to_the_right_one() -> None:
    where = ("stages", "x")
    assert right_place(Outer, where, (), "size") == "inner.size"
    assert right_place(Outer, where, ("inner",), "word") == "stages.x.word"
    assert right_place(Outer, where, ("inner",), "nothing") is None
