"""Rows of descriptors: one file of them, on disk or read once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlcli.features import segments
from tlcli.features.segments import Segment

Float32 = NDArray[np.float32]

READ_ROWS = 1 << 13
"""Rows that are read at once."""

KEPT_BYTES = 2**28
"""Rows of up to this size stay in memory while questions are asked."""


@dataclass(frozen=True, eq=False)
class Rows:
    """One segment, and which of its rows belong to images."""

    id: int
    segment: Segment
    width: int
    """M"""
    live: NDArray[np.bool_]
    """(n,)"""

    def blocks(self) -> Iterator[tuple[int, Float32]]:
        """(number of the first row, rows (k, M)), in order; removed rows too."""
        for first in self.starts():
            yield first, self.block(first)

    def starts(self) -> range:
        """The first rows of blocks."""
        return range(0, len(self.live), READ_ROWS)

    def block(self, first: int) -> Float32:
        """The block (k, M) that begins with a row."""
        return self.read(first, min(first + READ_ROWS, len(self.live)))

    def live_in(self, first: int) -> NDArray[np.bool_]:
        """(k,) which rows of the block that begins with a row belong to images."""
        return self.live[first : first + READ_ROWS]

    def hashes(self) -> tuple[str, ...]:
        """The content hash of each row's image."""
        return segments.hashes_of(self.segment.keys)

    def read(self, first: int, last: int) -> Float32:
        """The rows from `first` to before `last`."""
        into = np.empty((last - first, self.width), np.float16)
        self.segment.rows.read(first, into)
        return into.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _InMemory(Rows):
    """Rows that were read once."""

    vectors: Float32
    """(n, M)"""

    def read(self, first: int, last: int) -> Float32:
        """See `Rows`."""
        return self.vectors[first:last]


def in_memory(rows: Sequence[Rows]) -> Sequence[Rows]:
    """The same rows, read once where that takes no more than `KEPT_BYTES`."""
    if sum(4 * part.width * len(part.live) for part in rows) > KEPT_BYTES:
        return rows
    return [
        _InMemory(part.id, part.segment, part.width, part.live, part.read(0, len(part.live)))
        for part in rows
    ]
