"""Moments: the exact integer state from which every closed-form head is solved.

Symbols: n images, D feature width, C classes, φ the feature vector of an image.
A feature is put on a fixed-point grid, q = round(φ·2^bits), so that sums and products are
integers. Integer addition is associative: any order, split or sharding of the images gives the
same bits, and subtraction undoes addition exactly.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tlcli.errors import DataError, RunError

LARGEST = 2**16 - 1
"""Grid values saturate at ±LARGEST, so that a product is below 2^32."""

MOST_IMAGES = 2**30
"""Of a class: their products of grid values, and twice as many, fit into 64 bits."""

LARGEST_SUM = 2**62
"""What two of are added without leaving 64 bits unnoticed."""

_BLOCK_ROWS = 2048
"""Rows multiplied at once; with the finest grid, of 20 bits, every partial sum of a float64 product
is below 2^53 and exact."""

Int64 = NDArray[np.int64]


class Rows(Protocol):
    """A matrix (n, D) that gives arrays of its rows: one itself, or `features.Vectors`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows n and columns D."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: slice, /) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class Moments:
    """Counts, sums and one Gram matrix of quantised features, classes in sorted name order."""

    fingerprint: str
    """Of the backbone that gave the features."""
    bits: int
    """Fixed-point bits: one unit of the integers is 2^-bits of a feature."""
    classes: tuple[str, ...]
    counts: Int64
    """(C,) images per class, all positive."""
    sums: Int64
    """(C, D) sum of q over the images of each class."""
    gram: Int64
    """(D, D) sum of q qᵀ over all images."""
    saturated: int = 0
    """How many feature entries hit the end of the grid."""
    of_width: int | None = None
    """The width of the features that these are coordinates of; None where they are features."""

    @property
    def images(self) -> int:
        """How many images were seen."""
        return int(self.counts.sum())

    @property
    def width(self) -> int:
        """D, the length of a feature vector."""
        return int(self.gram.shape[0])

    @property
    def dimensions(self) -> int:
        """Of the space in which features vary: D, however few coordinates they are told in."""
        return self.width if self.of_width is None else self.of_width

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the canonical bytes; published as `memory_sha256`."""
        hasher = hashlib.sha256(f"tlcli moments 1\n{self.fingerprint}\n{self.bits}\n".encode())
        for name, count, total in zip(self.classes, self.counts, self.sums, strict=True):
            encoded = name.encode()
            hasher.update(struct.pack("<qq", len(encoded), count) + encoded)
            hasher.update(total.astype("<i8").tobytes())
        hasher.update(self.gram_triangle.astype("<i8").tobytes())
        return hasher.hexdigest()

    @property
    def gram_triangle(self) -> Int64:
        """(D·(D+1)/2,) the upper triangle of the Gram matrix, row by row."""
        return self.gram[np.triu_indices(self.width)]


def empty(fingerprint: str, bits: int, width: int) -> Moments:
    """The moments of no image: the identity of `add`."""
    return Moments(
        fingerprint,
        bits,
        (),
        np.zeros(0, np.int64),
        np.zeros((0, width), np.int64),
        np.zeros((width, width), np.int64),
    )


def of(
    features: Rows, labels: Sequence[str], fingerprint: str, bits: int, largest: int = LARGEST
) -> Moments:
    """The moments of features (n, D) with one class name each, read a block at a time.

    Args:
        features: read.
        labels: class names.
        fingerprint: of the backbone.
        bits: fixed-point bits.
        largest: where grid values saturate, at most 2^20.

    Raises:
        DataError: a feature is not finite.
    """
    total = empty(fingerprint, bits, features.shape[1])
    for start in range(0, len(features), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        grid, saturated = quantise(features[block], bits, largest)
        found = _of_block(grid, labels[block], fingerprint, bits)
        total = add(total, replace(found, saturated=saturated))
    return total


def _of_block(
    grid: NDArray[np.float64], labels: Sequence[str], fingerprint: str, bits: int
) -> Moments:
    classes, index = np.unique(np.asarray(labels, dtype=object), return_inverse=True)
    members = index[:, None] == np.arange(len(classes))
    return Moments(
        fingerprint,
        bits,
        tuple(classes),
        members.sum(axis=0, dtype=np.int64),
        (members.T.astype(np.float64) @ grid).astype(np.int64),
        (grid.T @ grid).astype(np.int64),
    )


def quantise(
    features: NDArray[np.float32], bits: int, largest: int = LARGEST
) -> tuple[NDArray[np.float64], int]:
    """Features (n, D) on the integer grid, as float64, and how many entries saturated."""
    if not np.isfinite(features).all():
        raise DataError(
            "Expected finite features. Received: NaN or infinity from the backbone. "
            "Check its weights; the images are not at fault."
        )
    grid = features.astype(np.float64)
    grid *= 2.0**bits
    np.rint(grid, out=grid)
    saturated = int(np.count_nonzero(grid > largest) + np.count_nonzero(grid < -largest))
    return np.clip(grid, -largest, largest, out=grid), saturated


def add(a: Moments, b: Moments) -> Moments:
    """The moments of all images of `a` and `b`; classes are united by name.

    Raises:
        DataError: the integers of so many images do not fit into 64 bits.
    """
    total = _combine(a, b, 1)
    _require_room(total)
    return total


def _require_room(total: Moments) -> None:
    """Refuse integers to which as many could not be added without leaving 64 bits."""
    if largest(total.counts) > MOST_IMAGES or max(map(largest, (total.sums, total.gram))) > (
        LARGEST_SUM
    ):
        raise DataError(
            f"Expected at most {MOST_IMAGES} images of a class, and sums of features below 2^62. "
            f"Received: {total.images} images, with which the moments would not be exact any more. "
            "Learn fewer of them."
        )


def largest(array: Int64) -> int:
    """The largest absolute value; 0 of nothing. -2^63 counts as 2^63."""
    return max(int(array.max()), -int(array.min())) if array.size else 0


def subtract(a: Moments, b: Moments, exact: bool = True) -> Moments:
    """The moments of the images of `a` without those of `b`; a class without images leaves.

    Args:
        a: of all images.
        b: of some of them.
        exact: whether `a` holds no estimates; a class of estimates need not leave without a rest.

    Raises:
        DataError: `b` holds images that `a` cannot hold.
    """
    difference = _combine(a, b, -1)
    rest = (difference.counts == 0) & difference.sums.any(axis=1) & exact
    impossible = (difference.counts < 0) | rest
    if impossible.any():
        worst = difference.classes[int(np.argmax(impossible))]
        raise DataError(
            f"Expected to take away images that were learned. Received: images of class {worst!r} "
            "that the moments do not hold. Name only images of this run."
        )
    return _without_empty_classes(difference)


def renamed(total: Moments, names: Mapping[str, str]) -> Moments:
    """The moments under other class names; classes that come to have one name are added up.

    Args:
        total: of all images.
        names: class → its new name; other classes keep theirs.
    """
    called = [names.get(name, name) for name in total.classes]
    classes = tuple(sorted(set(called)))
    rows = [classes.index(name) for name in called]
    counts = np.zeros(len(classes), np.int64)
    sums = np.zeros((len(classes), total.width), np.int64)
    np.add.at(counts, rows, total.counts)
    np.add.at(sums, rows, total.sums)
    return replace(total, classes=classes, counts=counts, sums=sums)


def _combine(a: Moments, b: Moments, sign: int) -> Moments:
    require_same_space(a, b)
    classes = tuple(sorted({*a.classes, *b.classes}))
    counts = np.zeros(len(classes), np.int64)
    sums = np.zeros((len(classes), a.width), np.int64)
    for moments, factor in ((a, 1), (b, sign)):
        rows = [classes.index(name) for name in moments.classes]
        counts[rows] += factor * moments.counts
        sums[rows] += factor * moments.sums
    return Moments(
        a.fingerprint,
        a.bits,
        classes,
        counts,
        sums,
        a.gram + sign * b.gram,
        a.saturated + sign * b.saturated,
        a.of_width,
    )


def _without_empty_classes(moments: Moments) -> Moments:
    kept = np.flatnonzero(moments.counts)
    return replace(
        moments,
        classes=tuple(moments.classes[row] for row in kept),
        counts=moments.counts[kept],
        sums=moments.sums[kept],
    )


def require_same_space(a: Moments, b: Moments) -> None:
    """Raise RunError unless both are of features of one backbone."""
    if (a.fingerprint, a.bits, a.width) != (b.fingerprint, b.bits, b.width):
        raise RunError(
            f"Expected moments of backbone {a.fingerprint[:12]} ({a.bits} bits, width {a.width}). "
            f"Received: backbone {b.fingerprint[:12]} ({b.bits} bits, width {b.width}). "
            "Features of different backbones, of images drawn otherwise (--fit, --white-level), or "
            "of other --layers and --views cannot be mixed."
        )
