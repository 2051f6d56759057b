"""The ids of texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint32]


@dataclass(frozen=True)
class Encoded:
    """The ids of a list of texts, one after another."""

    ids: Ids
    lengths: NDArray[np.int64]
    """How many ids each text has."""

    def equals(self, other: "Encoded") -> bool:
        """Whether the ids are the same, however the texts were divided."""
        return bool(np.array_equal(self.ids, other.ids))

    def rows(self, number: int) -> list[list[int]]:
        """The ids of each of the first texts."""
        ends = np.cumsum(self.lengths[:number]).tolist()
        starts = [0, *ends][:number]
        return [self.ids[start:end].tolist() for start, end in zip(starts, ends, strict=True)]


def encoded_rows(rows: Sequence[Sequence[int]]) -> Encoded:
    """One list of ids a text."""
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    ids = np.empty(int(lengths.sum()), dtype=np.uint32)
    start = 0
    for row in rows:
        ids[start : start + len(row)] = row
        start += len(row)
    return Encoded(ids, lengths)
