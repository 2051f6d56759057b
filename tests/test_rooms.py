"""The plan of the package stays one to draw from memory; `python -m tests.rooms` prints it."""

from tests.rooms import depth_of, loose_modules, room_imports

MAX_ROOMS = 16
MAX_IMPORTS = 65
MAX_DEPTH = 10
MAX_LOOSE = 7


def test_there_are_few_rooms_and_few_ways_between_them() -> None:
    assert len(room_imports()) <= MAX_ROOMS, sorted(room_imports())
    assert sum(map(len, room_imports().values())) <= MAX_IMPORTS, room_imports()


def test_no_way_down_is_long() -> None:
    depths = {room: depth_of(room) for room in room_imports()}
    assert max(depths.values()) <= MAX_DEPTH, depths


def test_few_modules_lie_outside_rooms() -> None:
    assert len(loose_modules()) <= MAX_LOOSE, loose_modules()
