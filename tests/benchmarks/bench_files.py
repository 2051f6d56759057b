"""Files: hashing while writing, and what converting a checkpoint costs."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from continuum.training.checkpoint import HashingWriter
from tests.benchmarks.commands import now
from tests.benchmarks.rows import Row, Setting, benchmark, paired

BLOCK = os.urandom(1 << 22)


@benchmark("hashing")
def bench_hashing(setting: Setting) -> Sequence[Row]:
    """Write a file through the hashing writer, against writing it; both flushed to the disk."""
    size = (64 if setting.quick else 512) << 20
    path = setting.work_dir / "file"

    def plain() -> float:
        return _write(path, size, hashed=False)

    def hashing() -> float:
        return _write(path, size, hashed=True)

    reference, ours = paired(plain, hashing, setting.rounds)
    what = f"hashing while writing {size >> 20} MiB"
    note = "a processor hashes 1.8 GB/s: a faster disk, or a busy second processor, waits for it"
    return [Row("hashing", what, "plain write + fsync", reference, ours, "s", 1.15, note=note)]


def _write(path: Path, size: int, *, hashed: bool) -> float:
    start = now()
    with path.open("wb") as file, HashingWriter(file) as writer:
        write: Callable[[bytes], int] = writer.write if hashed else file.write
        for _ in range(size // len(BLOCK)):
            write(BLOCK)
        file.flush()
        os.fsync(file.fileno())
    return now() - start
