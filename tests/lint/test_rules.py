"""Every file in `tests/lint/specs` draws the warnings its comments expect, and no other.

# warn: W002 line 16 column 38 "warm-up takes 5 of 20 steps"

`W002-steps.yaml` breaks a rule, and `W002-steps.right.yaml` says the same without breaking it.
"""

import re
import time
from pathlib import Path

import pytest

from continuum.lint import LINT_CODES, check, diagnose
from continuum.loading.diagnostics import Diagnostic
from continuum.loading.load import load
from continuum.planning.lockfile import LockedStage, Lockfile
from tests.in_process import plan_experiment

SPECS = Path(__file__).parent / "specs"
FILES = sorted(SPECS.glob("*.yaml"))
ROOT = Path(__file__).parents[2]
MAX_SECONDS = 1.5
_EXPECTATION = re.compile(
    r'# warn: (?P<code>W\d{3}) line (?P<line>\d+) column (?P<column>\d+) "(?P<message>.*)"'
)


def warnings_of(path: Path, *overrides: str) -> tuple[Diagnostic, ...]:
    return check(path, overrides).found


def expectations(path: Path) -> list[tuple[str, int, int, str]]:
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# warn:"):
            match = _EXPECTATION.fullmatch(line)
            assert match, f"{path.name}: not an expectation: {line}"
            place = (int(match["line"]), int(match["column"]))
            found.append((match["code"], *place, match["message"]))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_spec_draws_exactly_the_expected_warnings(path: Path) -> None:
    found = warnings_of(path)
    expected = expectations(path)
    assert [(w.code, w.place.line, w.place.column) for w in found] == [e[:3] for e in expected]
    for warning, (*_, message) in zip(found, expected, strict=True):
        assert message in warning.message
    assert all(warning.severity == "warning" for warning in found)


def test_every_code_has_an_example_that_breaks_it_and_one_that_does_not() -> None:
    broken = {code for path in FILES for code, *_ in expectations(path)}
    followed = {path.name[:4] for path in FILES if path.name.endswith(".right.yaml")}
    assert broken == followed == {code for code in LINT_CODES if code.startswith("W")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_breaks_the_rule_that_names_it(path: Path) -> None:
    codes = {code for code, *_ in expectations(path)}
    assert codes == (set() if path.name.endswith(".right.yaml") else {path.name[:4]})


@pytest.mark.parametrize("code", LINT_CODES)
def test_a_code_is_explained(code: str) -> None:
    explained = LINT_CODES[code]
    assert explained.summary.endswith(".")
    assert len(explained.advice) > 80
    assert explained.wrong
    assert explained.right
    assert explained.wrong != explained.right


def test_hundreds_of_stages_are_linted_in_a_moment(tmp_path: Path) -> None:
    names = ["pretrain", *(f"x{number}" for number in range(400))]
    fields = "max_steps: 20, schedule: {kind: constant}"
    pairs = zip(names[1:], names, strict=False)
    stages = "".join(f"  {n}: {{kind: resume, from: {parent}, {fields}}}\n" for n, parent in pairs)
    path = tmp_path / "spec.yaml"
    right = (SPECS / "W002-steps.right.yaml").read_text(encoding="utf-8")
    path.write_text(right + stages, encoding="utf-8")
    loaded = load(path)
    assert loaded.experiment is not None
    plan = plan_experiment(loaded.experiment, tmp_path)
    started = time.process_time()
    found = diagnose(loaded, plan)
    assert time.process_time() - started < MAX_SECONDS
    assert [told.code for told in found] == ["E401"] * 400


def test_passes_are_counted_through_resume_and_retrain() -> None:
    (found,) = warnings_of(SPECS / "W001-through-a-resume-and-a-retrain.yaml")
    before, own = 600_000, 400_000
    match = re.search(
        r"read at least ([\d.]+) times, ([\d.]+) of them in earlier stages", found.message
    )
    assert match
    assert float(match[1]) / float(match[2]) == pytest.approx((before + own) / before, rel=0.01)


def test_a_warning_about_an_override_says_which() -> None:
    spec = SPECS / "W002-steps.right.yaml"
    (found,) = warnings_of(spec, "stages.pretrain.schedule.warmup=9")
    assert str(found.place) == "--set stages.pretrain.schedule.warmup=9"


def test_a_secret_is_not_repeated_anywhere() -> None:
    secret = "hf_" + "AbCdEfGhIj" * 3
    (found,) = warnings_of(SPECS / "W011-forgotten-dataset.right.yaml", f"description={secret}")
    assert found.code == "W004"
    assert secret not in str(found.as_json())
    assert str(found.place) == "--set description=…"
    assert not found.shows_source


def test_what_the_lock_pins_is_pinned(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_bytes((SPECS / "W003-url.yaml").read_bytes())
    assert [warning.code for warning in warnings_of(path)] == ["W003"]
    pins = {"https://example.org/1.txt": "a" * 64}
    locked = LockedStage(fingerprint="0" * 64, pins=pins)
    lock = Lockfile(experiment="lint", versions={}, stages={"books": locked})
    (tmp_path / "continuum.lock").write_text(lock.as_yaml(), encoding="utf-8")
    assert warnings_of(path) == ()


def test_texts_that_are_not_there_yet_are_not_taken_for_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    stages = "".join(
        f"  {name}: {{kind: fetch, sources: [{{path: {name}.txt}}]}}\n" for name in ("one", "two")
    )
    path = tmp_path / "experiment.yaml"
    path.write_text(f"continuum: 1\nname: lint\nstages:\n{stages}", encoding="utf-8")
    assert {found.code for found in warnings_of(path)} == {"E402"}
    one.write_text("the same", encoding="utf-8")
    two.write_text("another", encoding="utf-8")
    assert warnings_of(path) == ()


LEAKING = """
continuum: 1
name: lint
stages:
  old: {kind: fetch, sources: [{path: old.txt}]}
  new: {kind: fetch, sources: [{path: new.txt}]}
  held: {kind: import, as: corpus, path: held}
  tokenizer: {kind: train_tokenizer, corpus: old, vocab_size: 320}
  first: {kind: tokenize, corpus: old, tokenizer: tokenizer, validation: none}
  second: {kind: tokenize, corpus: new, tokenizer: tokenizer, validation: {corpus: held}}
  pretrain:
    kind: pretrain
    model: {name: pythia-14m, n_layer: 1, n_embd: 16, n_head: 2, vocab_size: 320}
    data: first
    max_steps: 5
    sequence_length: 8
    global_batch_size: 4
    optimizer: {lr: 1e-3}
    evaluate: null
  retrain:
    kind: retrain
    from: pretrain
    data: second
    max_steps: 5
    sequence_length: 8
    global_batch_size: 4
    optimizer: {lr: 1e-3}
"""


def test_a_copy_of_what_an_ancestor_trained_on_is_seen_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(LEAKING, encoding="utf-8")
    (tmp_path / "held").mkdir()
    copy = tmp_path / "held" / "copy.txt"
    for name in ("old", "new"):
        (tmp_path / f"{name}.txt").write_text(f"the {name} book\n" * 99, encoding="utf-8")
    copy.write_bytes((tmp_path / "old.txt").read_bytes())
    (told,) = [w.message for w in warnings_of(path) if w.code == "W006"]
    assert "validation text of 'second' is also training text of 'first'" in told
    assert "(copy.txt, a copy of old.txt)" in told
    copy.write_text("text of its own", encoding="utf-8")
    assert [w for w in warnings_of(path) if w.code == "W006"] == []
    copy.write_bytes((tmp_path / "new.txt").read_bytes())
    (told,) = [w.message for w in warnings_of(path) if w.code == "W006"]
    assert "is also training text of 'second' (copy.txt, a copy of new.txt)" in told
