"""What `plan` prints is what `run` does, over random experiments in random states.

A case that fails prints its history; `pytest -k 'world-17-'` plays it again. `pytest -m slow`
plays those that the default run leaves out.
"""

import copy
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum.planning.plan import Request
from tests.planning.carrying_out import artifacts_of, carry_out_and_compare, document_of, run
from tests.planning.mutations import EDITS, interrupt
from tests.planning.worlds import Turn, World
from tests.servers.texts import TextServer, serve_texts

NUM_WORLDS = 300
NUM_QUICK = 8
NUM_TURNS = 5
TRAINING_SHARE = 6
"""One world in so many trains a model."""


@pytest.fixture(scope="module")
def texts() -> Iterator[TextServer]:
    with serve_texts() as server:
        yield server


WORLDS = [
    pytest.param(n, marks=[pytest.mark.slow] if n >= NUM_QUICK else [], id=f"world-{n}-")
    for n in range(NUM_WORLDS)
]


@pytest.mark.parametrize("number", WORLDS)
def test_a_run_does_what_the_plan_said(number: int, texts: TextServer, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    world = World(folder, random.Random(number), texts)
    world.begin(trains=number % TRAINING_SHARE == 0)
    try:
        live(world)
        compare_with_a_fresh_run(world, tmp_path / "fresh")
    except BaseException:
        print(f"world {number}", *world.log, sep="\n  ")
        raise


def live(world: World) -> None:
    """Turn after turn: something happens, then the experiment is planned and run."""
    is_settled = False
    for number in range(NUM_TURNS):
        sound = copy.deepcopy(world.document)
        world.past.append(sound)
        turn = befall(world, number)
        world.write()
        world.serve_what_is_locked()
        request = Request(rerun=frozenset(turn.rerun & world.stages.keys()))
        if is_settled and turn.touched is not None:
            assert_the_rest_is_reused(world, turn, request)
        document, is_settled = carry_out_and_compare(world.folder, request, turn.interruption)
        world.log.append(f"  {[(s['name'], s['action']) for s in document['stages']]}")
        if is_settled:
            assert not document_of(world.folder)["has_work"], "a second run would do something"
        if not document["ok"]:
            world.log.append(f"  refused: {[s['problems'] for s in document['stages']]}")
            world.document = sound
            world.write()
    world.serve_what_is_locked()
    _, is_settled = carry_out_and_compare(world.folder)
    assert is_settled, "the last run did not come to its end"
    assert not document_of(world.folder)["has_work"]


def befall(world: World, number: int) -> Turn:
    turn = Turn()
    edits = [world.rng.choice(EDITS) for _ in range(world.rng.choice((1, 1, 1, 2)))]
    if world.rng.random() < 0.3:
        edits.append(interrupt)
    for edit in edits if number else edits[-1:]:
        what = edit(world, turn)
        world.log.append(f"turn {number}: {edit.__name__}: {what}")
        world.write()
    return turn


def assert_the_rest_is_reused(world: World, turn: Turn, request: Request) -> None:
    assert turn.touched is not None
    may_run = world.below(turn.touched)
    stages = document_of(world.folder, request)["stages"]
    others = {s["name"]: s["action"] for s in stages if s["name"] not in may_run}
    assert set(others.values()) <= {"reuse"}, f"not touched, and yet: {others}"


def compare_with_a_fresh_run(world: World, folder: Path) -> None:
    """What lies here now is what the same spec, sources and pins make in an empty folder."""
    folder.mkdir()
    for path in world.folder.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    result = run(folder)
    result.raise_for_failure()
    assert artifacts_of(world.plan()) == artifacts_of(result.plan), "something stale was reused"
