"""The nearest images of an index: exactly, or by way of the approximate index."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tlcli.retrieval.approximate import Approximate, Place, load
from tlcli.retrieval.records import Entry
from tlcli.retrieval.rows import Rows, in_memory
from tlcli.retrieval.store import Index

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """An image that was found."""

    entry: Entry
    similarity: float
    """Of the descriptors, from -1 to 1."""


@dataclass(frozen=True, eq=False)
class Searcher:
    """Answers queries on one state of an index."""

    index: Index
    approximate: Approximate | None

    @staticmethod
    def of(index: Index, exact: bool) -> "Searcher":
        """With the approximate index where there is a usable one and nothing exact is asked for."""
        return Searcher(index, None if exact else load(index))

    def search(self, queries: Float32, count: int) -> list[list[Hit]]:
        """The `count` nearest images of each descriptor (n, M), the nearest first.

        Similarities are computed from the rows as they are kept, however they were found.
        """
        found = self._places(queries, min(count, self._images))
        return [
            [self._hit(place) for place in self._ranked(query, places)[:count]]
            for query, places in zip(queries, found, strict=True)
        ]

    @cached_property
    def _images(self) -> int:
        return len(self.index)

    def _places(self, queries: Float32, count: int) -> list[set[Place]]:
        compared = nearest(self._compared, queries, count)
        if self.approximate is None:
            return compared
        known = self.approximate.candidates(queries, count)
        return [places | others for places, others in zip(known, compared, strict=True)]

    @cached_property
    def _compared(self) -> Sequence[Rows]:
        """What every query is compared with, row by row."""
        unknown = self.index.rows if self.approximate is None else self.approximate.uncovered
        return in_memory(unknown)

    def _ranked(self, query: Float32, places: Iterable[Place]) -> list[tuple[float, Place]]:
        """(−similarity, place), the nearest first, equal ones in the order of their places."""
        exact = query.astype(np.float64)
        return sorted((-float(self.index.row(*place) @ exact), place) for place in places)

    def _hit(self, ranked: tuple[float, Place]) -> Hit:
        similarity, place = ranked
        return Hit(self.index.records.at(*place), -similarity)


def nearest(rows: Sequence[Rows], queries: Float32, count: int) -> list[set[Place]]:
    """The places of the nearest rows of each query (n, M), by comparing with every one."""
    best: list[list[tuple[float, Place]]] = [[] for _ in queries]
    for part in rows:
        for first, block in part.blocks():
            similarities = queries @ block.T
            similarities[:, ~part.live_in(first)] = -np.inf
            for number, found in enumerate(similarities):
                largest = _largest(found, count)
                near = [(-float(found[row]), (part.id, first + int(row))) for row in largest]
                best[number] = heapq.nsmallest(count, best[number] + near)
    return [{place for _, place in found} for found in best]


def _largest(similarities: Float32, count: int) -> NDArray[np.intp]:
    """The places of the largest values, with all that are equal to the smallest of them."""
    least = np.partition(similarities, -count)[-count] if count < len(similarities) else -np.inf
    return np.flatnonzero((similarities >= least) & (similarities > -np.inf))
