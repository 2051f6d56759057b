"""Whatever happens to a file, it is valid or its mistakes are told; never a traceback."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from continuum.spec.diagnostics import Place, SpecError
from continuum.spec.experiment import load_experiment

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart" / "experiment.yaml"
NUM_MUTATIONS = 500
MAX_SECONDS = 1.0
FRAGMENTS = (
    b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b"- ", b": ", b"{", b"}", b"[", b"]", b"'", b'"', b"#",
    b"&a ", b"*a", b"!!python/name:os.system ", b"<<: *a", b"---\n", b"...\n", b"%YAML 1.1\n", b"|",
    b">", b"? ", b"@step-1", b"${x}", b"${", b"$${", b"null", b"true", b"1e999", b".nan", b"-1",
    b"\xe2\x80\xa8", b"\xc2\x85", b"\r", b"<<<<<<< HEAD\n", b"~", b"[[[[[[[[", b"vars: {x: 1}\n",
    b"extends: .\n", b"9" * 500,
)  # fmt: skip


def delete(data: bytes, random: random.Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + data[start + random.choice((1, 1, 2, 5, 40)) :]


def insert(data: bytes, random: random.Random) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + random.choice(FRAGMENTS) + data[at:]


def overwrite(data: bytes, random: random.Random) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]


def drop_a_line(data: bytes, random: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[random.randrange(len(lines))]
    return b"".join(lines)


def move_a_line(data: bytes, random: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(random.randrange(len(lines)), lines.pop(random.randrange(len(lines))))
    return b"".join(lines)


def shift_a_line(data: bytes, random: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    number = random.randrange(len(lines))
    lines[number] = random.choice((b" ", b"  ", b"\t")) + lines[number]
    return b"".join(lines)


def swap_tokens(data: bytes, random: random.Random) -> bytes:
    tokens = data.split(b" ")
    first, second = random.randrange(len(tokens)), random.randrange(len(tokens))
    tokens[first], tokens[second] = tokens[second], tokens[first]
    return b" ".join(tokens)


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    delete,
    insert,
    overwrite,
    drop_a_line,
    move_a_line,
    shift_a_line,
    swap_tokens,
)


def mutant(seed: int) -> bytes:
    source = random.Random(seed)
    data = QUICKSTART.read_bytes()
    for _ in range(source.choice((1, 1, 2, 4))):
        data = source.choice(MUTATIONS)(data, source)
    return data


@pytest.mark.parametrize("block", range(10))
def test_a_damaged_spec_is_valid_or_its_mistakes_are_told(block: int, tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    for seed in range(block * NUM_MUTATIONS // 10, (block + 1) * NUM_MUTATIONS // 10):
        path.write_bytes(mutant(seed))
        started = time.process_time()
        for place in places_of_mistakes(path):
            assert place.line >= 1, seed
            assert place.column >= 1, seed
        assert time.process_time() - started < MAX_SECONDS, seed


def places_of_mistakes(path: Path) -> list[Place]:
    try:
        load_experiment(path)
    except SpecError as error:
        return [found.place for found in error.diagnostics]
    return []
