"""What DVC and OmegaConf say of wrong specs, each in an environment of its own."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.benchmarks.mistakes.translate import (
    DVC_YAML,
    PARAMS_YAML,
    REFERENCES,
    Tree,
    translate,
    translated_base,
    tree_of,
)
from tests.benchmarks.peers import peer
from tests.spec.mutations.bases import MAIN, Base
from tests.spec.mutations.document import Document
from tests.spec.mutations.mutant import MAKERS, OVERRIDE, Mutant

Place = tuple[str, int]
"""File and line."""
OF_YAML = ("tests.spec.mutations.syntax", "tests.spec.mutations.brackets")
"""Makers of mistakes that any YAML file can have,"""
OF_FILES = ("key twice", "stage twice", "bytes that are no UTF-8", "control character")
"""and classes of them elsewhere."""
KEYS = {"kind": "cmd", **dict.fromkeys(REFERENCES, "deps")}
"""DVC's keys for ours."""
_PROGRESS = re.compile(r"^(Running stage|> python).*$", re.MULTILINE)
CRASHES = re.compile(r"unexpected error|Traceback")


@dataclass(frozen=True)
class Outcome:
    """What was said of one mistake."""

    is_told: bool
    in_line: bool
    """Whether all that had to be told was, each with its file's line."""
    has_word: bool | None
    """Whether the word that was meant stands anywhere in the message; None for no typo."""
    crash: bool = False


@dataclass(frozen=True)
class _Case:
    """A wrong spec in a system's own files, with what has to be said of it."""

    given: Mapping[str, Any]
    places: frozenset[Place]
    tells_all: bool
    words: Sequence[str]

    def outcome(self, text: str, found: frozenset[Place]) -> Outcome:
        is_in_line = self.places <= found if self.tells_all else bool(self.places & found)
        said = [rf"(?<!\w){re.escape(word)}(?!\w)" for word in self.words]
        has_word = any(re.search(word, text) for word in said) if said else None
        return Outcome(bool(text), bool(text) and is_in_line, has_word, bool(CRASHES.search(text)))


def ask_omegaconf(peers_dir: Path, mutants: Sequence[Mutant]) -> list[Outcome]:
    """What structured configs say of each spec."""
    python = peer(peers_dir, "omegaconf", "omegaconf") / "python"
    cases = [_for_omegaconf(mutant) for mutant in mutants]
    answers = _ask(python, "omegaconf_side.py", [case.given for case in cases])
    return [
        case.outcome(
            answer["text"],
            frozenset({(answer["file"], answer["line"])} if answer["line"] else ()),
        )
        for case, answer in zip(cases, answers, strict=True)
    ]


def ask_dvc(
    peers_dir: Path, bases: Sequence[Base], mutants: Sequence[Mutant]
) -> list[Outcome | None]:
    """What `dvc repro --dry` says of each spec, told as a pipeline; None for what has no like."""
    python = peer(peers_dir, "dvc", "dvc") / "python"
    cases = [_for_dvc(bases, mutant) for mutant in mutants]
    answers = iter(_ask(python, "dvc_side.py", [case.given for case in cases if case]))
    return [_outcome_of_dvc(case, next(answers)) if case else None for case in cases]


def _ask(python: Path, script: str, cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [python, str(Path(__file__).with_name(script))],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script} fails: {done.stderr.strip()[-500:]}")
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def _for_omegaconf(mutant: Mutant) -> _Case:
    given = {
        "files": {name: _as_text(raw) for name, raw in mutant.files.items()},
        "main": MAIN,
        "overrides": list(mutant.overrides),
    }
    places = frozenset((file, line) for file, line, _ in mutant.places)
    return _Case(given, places, mutant.tells_all, mutant.word)


def _for_dvc(bases: Sequence[Base], mutant: Mutant) -> _Case | None:
    """The mistake in DVC's files: carried over with what the spec says, else made there anew."""
    if mutant.overrides:
        return None
    random = Random(mutant.seed)
    base = random.choice(bases) if mutant.mistake else _unchanged(bases, mutant)
    right = tree_of({name: text.encode() for name, text in base.files.items()})
    assert right is not None
    if not mutant.mistake:
        return _translated(mutant, right, right)
    wrong = tree_of(mutant.files)
    if wrong is not None and wrong != right and isinstance(wrong.get("stages"), dict):
        return _translated(mutant, wrong, right)
    maker = MAKERS[mutant.mistake]
    is_of_yaml = maker.__module__ in OF_YAML or mutant.mistake in OF_FILES
    made = maker(translated_base(base), random) if is_of_yaml else None
    if made is None:
        return None
    files = {_name_in_dvc(name): _as_text(raw) for name, raw in made.files.items()}
    places = frozenset((_name_in_dvc(file), line) for file, line, _ in made.places)
    return _Case(_given(files, right), places, made.tells_all, made.word)


def _unchanged(bases: Sequence[Base], mutant: Mutant) -> Base:
    texts = {name: _as_text(raw) for name, raw in mutant.files.items()}
    return next(base for base in bases if base.files == texts)


def _translated(mutant: Mutant, wrong: Tree, right: Tree) -> _Case | None:
    translation = translate(wrong, right)
    places = set()
    for file, line, _ in mutant.places:
        assert file != OVERRIDE
        at = next(
            (
                translation.lines[path]
                for path in _paths_at(mutant.files[file], line)
                if path in translation.lines
            ),
            None,
        )
        if at is None:
            return None
        places.add((_name_in_dvc(at[0]), at[1]))
    files = {_name_in_dvc(name): text for name, text in translation.files.items()}
    words = [word for meant in mutant.word for word in (meant, KEYS.get(meant)) if word]
    return _Case(_given(files, right), frozenset(places), mutant.tells_all, words)


def _given(files: Mapping[str, str], right: Tree) -> Mapping[str, Any]:
    return {"files": files, "outputs": list(right["stages"])}


def _paths_at(raw: bytes, line: int) -> Iterator[tuple[str, ...]]:
    """The paths of what a line says, its own before those that it lies in."""
    document = Document(_as_text(raw))
    try:
        entries = [entry for entry in document.entries if document.line_of(entry) == line]
    except yaml.YAMLError:
        return
    for entry in entries:
        path = tuple(str(part) for part in entry.path)
        for length in range(len(path), 1, -1):
            yield path[:length]


def _outcome_of_dvc(case: _Case, answer: Mapping[str, Any]) -> Outcome:
    if not answer["code"]:
        return case.outcome("", frozenset())
    text = _PROGRESS.sub("", str(answer["text"])).strip() or "failed"
    file = PARAMS_YAML if f"'{PARAMS_YAML}'" in text or f"/{PARAMS_YAML}" in text else "dvc.yaml"
    # What it points at may be a key's value, a line below the key.
    lines = [int(line) - up for line in re.findall(r"line:? (\d+)", text) for up in (0, 1)]
    return case.outcome(text, frozenset((file, line) for line in lines))


def _name_in_dvc(name: str) -> str:
    return "dvc.yaml" if name == DVC_YAML else name


def _as_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
