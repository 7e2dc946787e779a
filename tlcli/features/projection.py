"""A fixed random projection of feature vectors, which ridge and its kin can use better.

Source: McDonnell et al. 2023, "RanPAC: Random Projections and Pre-trained Models for Continual
Learning".
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tlcli.features.vectors import Float32, Selection, Vectors

_ROWS = 256
"""Vectors are projected in blocks of this many, padded: a row depends on its image alone."""


@dataclass(frozen=True)
class Projection:
    """h = ReLU(φP) with P (D, M) of independent normal numbers of variance 1/D."""

    width: int
    """M"""
    seed: int = 0

    def fingerprint(self, backbone: str) -> str:
        """Of the space of projected features; `backbone` is that of the plain ones."""
        text = f"{backbone}\nrelu projection to {self.width} with seed {self.seed}\n"
        return hashlib.sha256(text.encode()).hexdigest()

    def matrix(self, width: int) -> Float32:
        """P (D, M) for features of a width D."""
        return _matrix(width, self.width, self.seed)

    def of(self, rows: Float32) -> Float32:
        """Projected features (n, M) of features (n, D)."""
        matrix = self.matrix(rows.shape[1])
        result = np.empty((len(rows), self.width), np.float32)
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS]
            padded = np.zeros((_ROWS, rows.shape[1]), np.float32)
            padded[: len(block)] = block
            result[start : start + _ROWS] = np.maximum(padded @ matrix, 0)[: len(block)]
        return result


@lru_cache(maxsize=4)
def _matrix(rows: int, columns: int, seed: int) -> Float32:
    # The stream of RandomState never changes (NEP 19); that of Generator may.
    normal = np.random.RandomState(seed).standard_normal((rows, columns))
    return np.asarray(normal / np.sqrt(rows), np.float32)


@dataclass(frozen=True, eq=False)
class Projected:
    """Vectors seen through a projection, computed when rows are asked for."""

    source: Vectors
    projection: Projection

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows n and columns M."""
        return len(self.source), self.projection.width

    def __getitem__(self, chosen: Selection) -> Float32:
        """Read and project some of the rows."""
        return self.projection.of(self.source[chosen])

    def take(self, chosen: Selection) -> "Projected":
        """Some of the rows, unread."""
        return Projected(self.source.take(chosen), self.projection)

    def joined(self, other: "Projected") -> "Projected":
        """The rows of both, one matrix behind the other, unread."""
        return Projected(self.source.joined(other.source), self.projection)
