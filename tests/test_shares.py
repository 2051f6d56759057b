"""Long tests and benchmarks take turns, and nothing is left out for long."""

import subprocess
from pathlib import Path

import pytest

from tests.shares import current_turn, share, store_seconds, stored_seconds

SECONDS = {f"tests/test_long.py::test_{number}": float(1 + number % 40) for number in range(120)}


def deal(one_in: int, seconds: dict[str, float], first_turn: int = 0) -> list[set[str]]:
    turns = range(first_turn, first_turn + one_in)
    return [share(seconds, one_in, turn, seconds) for turn in turns]


@pytest.mark.parametrize("one_in", [1, 3, 20, 200])
@pytest.mark.parametrize("first_turn", [0, 1234])
def test_turns_after_each_other_have_every_test_once(one_in: int, first_turn: int) -> None:
    dealt = sorted(name for names in deal(one_in, SECONDS, first_turn) for name in names)
    assert dealt == sorted(SECONDS)


def test_no_share_takes_much_longer_than_the_mean() -> None:
    totals = [sum(SECONDS[name] for name in names) for names in deal(20, SECONDS)]
    assert max(totals) <= 1.1 * sum(SECONDS.values()) / 20


def test_a_new_test_moves_few_others() -> None:
    more = {**SECONDS, "tests/test_long.py::test_new": 20.0}
    moved = [len(new - old) for old, new in zip(deal(20, SECONDS), deal(20, more), strict=True)]
    assert sum(moved) < len(SECONDS) / 2


def test_the_turn_is_the_number_of_commits(tmp_path: Path) -> None:
    def git(*arguments: object) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *identity, *map(str, arguments)], cwd=tmp_path, check=True)

    days = current_turn(tmp_path)
    assert days > 20_000, "not in Git: days since 1970"
    git("init", "--quiet", "all")
    for number in (1, 2, 3):
        git("-C", "all", "commit", "--quiet", "--allow-empty", "--message", f"commit {number}")
        assert current_turn(tmp_path / "all") == number
    git("clone", "--quiet", "--depth=1", f"file://{tmp_path}/all", "shallow")
    assert current_turn(tmp_path / "shallow") in (days, days + 1)


def test_seconds_of_tests_that_are_gone_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    store_seconds({"tests/gone.py::test_a": 1.0, "tests/test_shares.py::test_b": 2.0}, path)
    parameters = {"tests/test_shares.py::test_c[1]": 12.3, "tests/test_shares.py::test_c[2]": 11.8}
    store_seconds({**parameters, "hashing": 3.0}, path)
    expected = {
        "hashing": 3.0,
        "tests/test_shares.py::test_b": 2.0,
        "tests/test_shares.py::test_c": 12.0,
    }
    assert stored_seconds(path) == expected
