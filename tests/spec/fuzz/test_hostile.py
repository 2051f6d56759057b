"""Input made to hang, to exhaust or to mislead: an ordinary error, soon."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from continuum.loading.diagnostics import MAX_BYTES
from continuum.loading.yaml import MAX_NODES
from tests.spec.documents import BOOKS, HEAD, TRAINING
from tests.spec.fuzz.test_fuzz import error_of

MEBIBYTE = 1 << 20
MAX_SECONDS = 8.0
"""Of the processor, on a busy machine: most take a tenth of a second, those of 70,000 values one or
two. What grew with their square would take minutes."""
ALMOST = MAX_BYTES - 200
"""Bytes of a file that is just small enough to be read."""


def filled(begin: str, repeated: str, end: str = "", size: int = ALMOST) -> str:
    return begin + repeated * ((size - len(begin) - len(end)) // len(repeated)) + end


def numbered(template: str, num_values: int = 1, total: int = 12_000) -> str:
    """A document of some 12,000 values, when each has so many."""
    return "".join(template.format(number) for number in range(total // num_values))


TEXTS = {
    "10 MiB of brackets": "[" * (10 * MEBIBYTE),
    "10 MiB of braces": "{a: " * (10 * MEBIBYTE // 4),
    "10 MiB of dashes": "- " * (5 * MEBIBYTE),
    "10 MiB of indentation": "".join(f"{' ' * n}a:\n" for n in range(4500)),
    "brackets": filled("a: ", "["),
    "dashes": filled("", "- "),
    "question marks": filled("", "? "),
    "colons": filled("", ":"),
    "spaces": filled("a:", " ", "b"),
    "spaces in a key": filled("a:\n  b", " ", "c\n  d: 1"),
    "quotes": filled('a: "', "\n b c d : e", '"'),
    "an open quote": filled('a: "', "x y\n"),
    "an open quote over keys": filled("a: '", "\nb: c"),
    "one line": filled("a: ", "x"),
    "one key": filled("", "x", ": 1"),
    "hashes": filled("a: b ", "#"),
    "empty lines": filled("a: 1", "\n"),
    "comments before a mistake": filled("a: b\n", "# x\n", "  c: d\n"),
    "lines before a mistake": filled("a: b\n", "b\n", "  c: d\n"),
    "deep variables": HEAD
    + "vars: {v0: x, "
    + "".join(f"v{n + 1}: '${{v{n}}}', " for n in range(5000))
    + "}\ndescription: ${v5000}\nx: 1\n",
    "tabs": filled("a:\n", "\t"),
    "aliases": "a: &a [1, 2, 3]\nb: [" + filled("", "*a, ") + "]",
    "misspelt keys": HEAD + filled("", "sead: 1\n"),
    "a long name": HEAD + filled("stages:\n  ", "x", ": {kind: fetch}"),
    "a long kind": HEAD + filled("stages:\n  a: {kind: ", "x", "}"),
    "a long reference": HEAD + filled("stages:\n  a: {kind: convert, from: ", "x", "}"),
    "a long selector": HEAD + filled("stages:\n  a: {kind: convert, from: a@step-", "9", "}"),
    "a long count": HEAD
    + filled("stages:\n  a: {kind: pretrain, max_tokens: ", "9", "k}", size=100_000),
    "a long address": HEAD
    + filled("stages:\n  a: {kind: fetch, sources: [{url: 'http://", "a.", "'}]}"),
    "dollars": HEAD + filled("description: ", "${"),
    "variables": HEAD + filled("vars: {x: 1}\ndescription: ", "${x}"),
    "undefined variables": HEAD + filled("description: ", "${y}"),
    "a number that names a key": HEAD + f"stages:\n  ? {'9' * 5000}\n  : {{kind: fetch}}\n",
    "a huge integer": HEAD + filled("seed: ", "9"),
    "a huge float": HEAD + filled("seed: ", "9", ".5"),
    "a huge exponent": HEAD + "seed: 1e" + "9" * 1000,
    "infinity": HEAD + "seed: 1e999",
    "a Python object": HEAD + "seed: !!python/object/apply:os.system ['touch hacked']",
    "a Python name": HEAD + "seed: !!python/name:os.system",
    "carriage returns": filled("", "a: 1\r"),
    "line separators": filled("a: b\n", "\u2028", "  c: d\n", size=MEBIBYTE),
    "NULs": "\0" * MEBIBYTE,
    "escapes": filled('a: "', "\\x41", '"'),
    "conflict markers": filled("", "<<<<<<< \n"),
    "documents": filled("", "---\n"),
    "directives": filled("", "%a b\n"),
    "tags": filled("", "!a ", "b"),
}
CROWDS = {
    "anchors": numbered("a{0}: &a{0} 1\n"),
    "unknown keys": HEAD + numbered("key{}: 1\n"),
    "faulty stages": HEAD + "stages:\n" + numbered("  s{}: {{kind: fetch, sorces: 1}}\n", 3),
    "faulty sources": HEAD + BOOKS[:-3].replace("[{", "[") + numbered("{{urk: {}}}, ", 2) + "]}",
    "stages that are none": HEAD + "stages:\n" + numbered("  s{}: 1\n"),
    "kinds that are none": HEAD + "stages:\n" + numbered("  s{}: {{kind: xx}}\n", 2),
    "references to nothing": HEAD
    + "stages:\n"
    + numbered("  s{0}: {{kind: convert, from: t{0}}}\n", 3),
    "a chain": HEAD + "stages:\n" + numbered("  s{0}: {{kind: convert, from: s{0}0}}\n", 3),
    "misspelt kinds": HEAD + "stages:\n" + numbered("  s{}: {{kind: fetchh}}\n", 2),
    "wrong artifacts": HEAD + BOOKS + numbered("  s{}: {{kind: convert, from: books}}\n", 3),
    "a ring": HEAD + "stages:\n" + numbered("  s{0}: {{kind: convert, from: s{0}}}\n", 3),
    "keys of a model": TRAINING.replace("pythia-14m", "{" + numbered("n_l{}: 1, ") + "}"),
    "keys of an optimizer": TRAINING.replace("lr: 1e-3", numbered("lrr{}: 1, ")),
    "keys of a runtime": TRAINING + "    runtime: {" + numbered("log{}: 1, ") + "}\n",
    "keys of other programs": TRAINING + numbered("    learning_rate{}: 1\n"),
    "bad items": TRAINING + "    runtime: {loggers: [" + numbered("x{}, ") + "]}\n",
    "a mixture": TRAINING.replace("data: tokens", "data: {" + numbered("t{}: 1, ") + "}"),
    "unused variables": HEAD + "vars: {" + numbered("v{}: 1, ") + "}\ndescription: ${w}\n",
    "wrong variables": HEAD + "vars: {" + numbered("v{0}: '${{w{0}}}', ") + "}\n" + BOOKS,
    "a chain of variables": HEAD + "vars: {" + numbered("v{0}: '${{v{0}0}}', ") + "}\n" + BOOKS,
    "stages at the top": HEAD + BOOKS + numbered("s{}: {{kind: fetch}}\n", 2),
    "stages in a stage": TRAINING + numbered("    s{}: {{kind: fetch}}\n", 2),
    "fields among the stages": TRAINING + numbered("  model{}: 1\n") + "  model: 1\n",
}
"""As many values as a file may hold, each with its mistake: half a second each."""
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)
NAMES = (
    "/dev/zero", "/dev/random", "/dev/full", "/dev/stdin", "/proc/kcore", "/proc/kmsg",
    "/proc/self/mem", "/proc/self/environ", "/proc/self/maps", "/proc/self/fd/0", "/", ".", "pipe",
    "loop", "sparse", "socket",
)  # fmt: skip


def held(path: Path, *overrides: str, max_seconds: float = MAX_SECONDS) -> None:
    started = time.process_time()
    error = error_of(path, overrides)
    assert error is not None
    assert len(str(error)) > 0
    assert time.process_time() - started < max_seconds


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_text_made_to_exhaust_is_refused_soon(text: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    held(path)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.fuzz
@pytest.mark.parametrize("text", CROWDS.values(), ids=CROWDS.keys())
def test_a_crowd_of_errors_is_reported_soon(text: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    held(path)


@pytest.mark.fuzz
def test_as_many_errors_as_a_file_may_hold_are_reported_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    circles = numbered("  s{0}: {{kind: convert, from: s{0}}}\n", 3, MAX_NODES - 100)
    path.write_text(HEAD + "stages:\n" + circles)
    held(path, max_seconds=3 * MAX_SECONDS)
    assert "more than" in str(error_of(path))


def test_an_alias_bomb_is_refused_soon(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(HEAD + BOMB + BOOKS)
    held(path)


@pytest.fixture
def strange_places(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket(socket.AF_UNIX).bind('socket')"],
        cwd=tmp_path,
        check=True,
    )
    return tmp_path


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_is_no_file_is_refused_as_a_spec(name: str, strange_places: Path) -> None:
    held(strange_places / name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [*NAMES, "x" * 300, "x" * 5000, "a/" * 2000, '"\\0"', "~"])
def test_a_place_that_is_no_file_is_refused_as_a_base(name: str, strange_places: Path) -> None:
    path = strange_places / "spec.yaml"
    path.write_text(f"extends: {name}\n" + HEAD + BOOKS)
    held(path)


@pytest.mark.parametrize(
    "text",
    [
        "stages.books.kind=" + "x" * MEBIBYTE,
        "a." * 100_000 + "b=1",
        "seed=" + "[" * MEBIBYTE,
        "seed=" + "9" * MEBIBYTE,
        "seed={a: &a [*a]}",
        "x" * MEBIBYTE + "=1",
        "stages.books.sources." + "9" * 5000 + ".url=x",
        "stages.books." + "9" * 5000 + "=x",
        "seed=\x1b[31m",
        "se\0ed=1",
        "seed=!!python/name:os.system",
        "stages.books.sources.0.python=\udc80",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_an_override_made_to_exhaust_is_refused_soon(text: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(HEAD + BOOKS)
    held(path, text)
