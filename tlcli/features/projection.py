"""A fixed random projection of feature vectors, which ridge and its kin can use better.

Source: McDonnell et al. 2023, "RanPAC: Random Projections and Pre-trained Models for Continual
Learning".
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tlcli.features.vectors import Float32, Selection, Vectors

LARGEST = 2**16 - 1
"""Features are cut at ± LARGEST units of their grid, as they are in moments."""

_MATRIX_BITS = 20
"""Entries of P are multiples of 2^-20."""


@dataclass(frozen=True)
class Projection:
    """h = ReLU(φP) with P (D, M) of independent normal numbers of variance 1/D.

    Features and P are put on fixed-point grids, so that every sum is of integers below 2^53 and
    exact in float64: the same bits on every processor, in any order.
    """

    width: int
    """M"""
    bits: int
    """Of the grid of the features: one unit is 2^-bits."""
    seed: int = 0

    def fingerprint(self, backbone: str) -> str:
        """Of the space of projected features; `backbone` is that of the plain ones."""
        text = f"{backbone}\nrelu projection to {self.width} with seed {self.seed}\n"
        return hashlib.sha256(text.encode()).hexdigest()

    def matrix(self, width: int) -> Float32:
        """P (D, M) for features of a width D."""
        return np.asarray(_units(width, self.width, self.seed) * 2.0**-_MATRIX_BITS, np.float32)

    def of(self, rows: Float32) -> Float32:
        """Projected features (n, M) of features (n, D)."""
        grid = np.clip(np.rint(rows.astype(np.float64) * 2.0**self.bits), -LARGEST, LARGEST)
        sums = grid @ _units(rows.shape[1], self.width, self.seed)
        np.maximum(sums, 0.0, out=sums)
        sums *= 2.0 ** -(self.bits + _MATRIX_BITS)
        return sums.astype(np.float32)

    def without_grid(self, rows: Float32) -> Float32:
        """What `of` would give of features that are not rounded, as in an exported network."""
        units = _units(rows.shape[1], self.width, self.seed)
        sums = np.maximum(rows.astype(np.float64) @ units, 0.0) * 2.0**-_MATRIX_BITS
        return np.asarray(sums, np.float32)


@lru_cache(maxsize=4)
def _units(rows: int, columns: int, seed: int) -> NDArray[np.float64]:
    """P (D, M) in units of its grid."""
    # The stream of RandomState never changes (NEP 19); that of Generator may.
    normal = np.random.RandomState(seed).standard_normal((rows, columns))
    return np.asarray(np.rint(normal * (2.0**_MATRIX_BITS / np.sqrt(rows))), np.float64)


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
