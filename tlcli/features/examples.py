"""Labelled feature vectors: what a head learns from."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tlcli.features.vectors import Float32, Selection


class Matrix(Protocol):
    """A matrix (n, D) whose rows are read when they are asked for."""

    def __len__(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows n and columns D."""
        ...

    def __getitem__(self, chosen: Selection) -> Float32: ...

    def take(self, chosen: Selection) -> Self:
        """Some of the rows, unread."""
        ...

    def joined(self, other: Self) -> Self:
        """The rows of both, one matrix behind the other, unread."""
        ...


@dataclass(frozen=True, eq=False)
class Examples:
    """n feature vectors with the class of each, and the content hash of its image."""

    hashes: tuple[str, ...]
    labels: tuple[str, ...]
    vectors: Matrix
    """(n, D)"""

    def __len__(self) -> int:
        return len(self.hashes)

    def where(self, mask: NDArray[np.bool_]) -> "Examples":
        """Those for which `mask` (n,) is true; no vector is read."""
        return Examples(
            tuple(compress(self.hashes, mask)),
            tuple(compress(self.labels, mask)),
            self.vectors.take(mask),
        )

    def only(self, hashes: Collection[str]) -> "Examples":
        """Those of images that are among `hashes`; no vector is read."""
        return self.where(among(self.hashes, hashes))

    def without(self, hashes: Collection[str]) -> "Examples":
        """Those of images that are not among `hashes`; no vector is read."""
        return self.where(~among(self.hashes, hashes))

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> "Examples":
        """The given rows in the given order; no vector is read."""
        return Examples(
            tuple(self.hashes[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            self.vectors.take(np.asarray(rows, np.intp)),
        )

    def joined(self, other: "Examples") -> "Examples":
        """These and the others behind them; no vector is read."""
        return Examples(
            self.hashes + other.hashes,
            self.labels + other.labels,
            self.vectors.joined(other.vectors),
        )

    def by_hash(self) -> "Examples":
        """The same in the order of the hashes, in which rounds leave no trace."""
        return self.take(sorted(range(len(self)), key=self.hashes.__getitem__))


def among(values: Sequence[str], chosen: Collection[str]) -> NDArray[np.bool_]:
    """(n,) which of the values are among the chosen ones."""
    return np.fromiter((value in chosen for value in values), np.bool_, len(values))
