"""Labelled feature vectors: what a head learns from."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
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
    groups: tuple[str, ...] = ()
    """What each belongs to with others, see `images.group_key`, empty for nothing; () for no
    groups at all."""

    def __len__(self) -> int:
        return len(self.hashes)

    def where(self, mask: NDArray[np.bool_]) -> "Examples":
        """Those for which `mask` (n,) is true; no vector is read."""
        return Examples(
            tuple(compress(self.hashes, mask)),
            tuple(compress(self.labels, mask)),
            self.vectors.take(mask),
            tuple(compress(self.groups, mask)),
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
            tuple(self.groups[row] for row in rows) if self.groups else (),
        )

    def joined(self, other: "Examples") -> "Examples":
        """These and the others behind them; no vector is read."""
        return Examples(
            self.hashes + other.hashes,
            self.labels + other.labels,
            self.vectors.joined(other.vectors),
            self.all_groups() + other.all_groups() if self.groups or other.groups else (),
        )

    def all_groups(self) -> tuple[str, ...]:
        """The group of each, also where there are none."""
        return self.groups or ("",) * len(self)

    def group_of(self) -> dict[str, str]:
        """The group of each content hash that has one."""
        pairs = zip(self.hashes, self.all_groups(), strict=True)
        return {key: group for key, group in pairs if group}

    def grouped(self, groups: Mapping[str, str]) -> "Examples":
        """The same with the group of each content hash."""
        found = tuple(groups.get(key, "") for key in self.hashes)
        return replace(self, groups=found if any(found) else ())

    def by_hash(self) -> "Examples":
        """The same in the order of the hashes, in which rounds leave no trace."""
        return self.take(sorted(range(len(self)), key=self.hashes.__getitem__))


def among(values: Sequence[str], chosen: Collection[str]) -> NDArray[np.bool_]:
    """(n,) which of the values are among the chosen ones."""
    return np.fromiter((value in chosen for value in values), np.bool_, len(values))
