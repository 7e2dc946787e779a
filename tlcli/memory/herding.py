"""Which images stand for a class: those whose mean is that of all its images.

Symbols: n images of a class, D feature width, f a feature vector of length 1, μ the mean of f over
all images of the class that were ever learned, also those that are gone.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from tlcli.features import Examples

log = logging.getLogger(__name__)

_GRID = 2.0**40
"""Centres are integers in units of 1/_GRID: their sum is the same in any order."""

_TIE = 1e-10
"""Distances that differ by less are equal: more than the rounding of a centre, for D < 10,000."""

_BLOCK_ROWS = 2048

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Centre:
    """What a class is herded towards: of how many images, and the sum of their f."""

    count: int
    total: NDArray[np.int64]
    """(D,) in units of 2^-40"""

    @property
    def mean(self) -> Float64:
        """The vector μ (D,)."""
        return self.total / (_GRID * self.count)

    def joined(self, other: "Centre") -> "Centre":
        """The centre of the images of both."""
        return Centre(self.count + other.count, self.total + other.total)

    def without(self, other: "Centre") -> "Centre":
        """The centre without the images of the other: undoes `joined`, bit for bit."""
        return Centre(self.count - other.count, self.total - other.total)

    def shrunk(self, count: int) -> "Centre":
        """As if so many images had gone whose mean is the present one."""
        left = max(self.count - count, 0)
        share = left / self.count if self.count else 0.0
        return self if not count else Centre(left, np.rint(self.total * share).astype(np.int64))


Centres = Mapping[str, Centre]
"""Class → its centre."""


def centres_of(examples: Examples) -> dict[str, Centre]:
    """The centre of each class; vectors are read a block at a time."""
    return {name: _centre(examples, rows) for name, rows in _by_class(examples)}


def _centre(examples: Examples, rows: list[int]) -> Centre:
    total = np.zeros(examples.vectors.shape[1], np.int64)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = examples.vectors[np.array(rows[start : start + _BLOCK_ROWS], np.intp)]
        total += np.rint(normalised(block) * _GRID).astype(np.int64).sum(axis=0)
    return Centre(len(rows), total)


def joined(a: Centres, b: Centres) -> dict[str, Centre]:
    """The centres of the images of both."""
    both = {**a, **b}
    for name in a.keys() & b.keys():
        both[name] = a[name].joined(b[name])
    return both


def renamed(centres: Centres, names: Mapping[str, str]) -> dict[str, Centre]:
    """The centres under other class names; those that come to have one name are joined."""
    called: dict[str, Centre] = {}
    for name, centre in centres.items():
        called = joined(called, {names.get(name, name): centre})
    return called


def without(centres: Centres, lost: Mapping[str, int], known: Examples) -> dict[str, Centre]:
    """The centres of the images that are left, of classes that have any.

    Args:
        centres: of all images.
        lost: class → how many of its images are gone.
        known: those of the images that are gone whose features are known.
    """
    gone = centres_of(known)
    left = {}
    for name, centre in centres.items():
        taken = gone.get(name)
        rest = centre.without(taken) if taken else centre
        left[name] = rest.shrunk(lost.get(name, 0) - (taken.count if taken else 0))
    return {name: centre for name, centre in left.items() if centre.count > 0}


def normalised(vectors: NDArray[np.float32]) -> Float64:
    """Vectors (n, D) scaled to length 1; a zero vector stays zero."""
    wide = vectors.astype(np.float64)
    length = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    wide /= np.where(length > 0, length, 1)[:, None]
    return wide


def herd(vectors: NDArray[np.float32], target: Float64 | None, k: int) -> list[int]:
    """The rows that stand for a class, most important first.

    Greedily, row i is chosen for which the mean of the chosen f is closest to μ. The choice for a
    smaller k is the beginning of that for a larger one. Of equally good rows the lowest is chosen.

    With s the sum of m chosen f, ‖μ − (s + fᵢ)/(m+1)‖² is smallest where ‖fᵢ‖² − 2 rᵀfᵢ is, for
    r = (m+1)μ − s. The products are taken row by row (einsum, not BLAS), so that they have the same
    bits on any number of cores.

    Args:
        vectors: (n, D) features, of any length.
        target: μ (D,); None for the mean of these rows.
        k: how many rows; all of them where there are fewer.

    Source: Rebuffi et al., iCaRL, CVPR 2017, algorithm 4.
    """
    rows = normalised(vectors)
    mean = rows.mean(axis=0) if target is None else target
    squares = np.einsum("nd,nd->n", rows, rows)
    rest = np.zeros_like(mean)
    chosen: list[int] = []
    for count in range(1, min(k, len(rows)) + 1):
        rest += mean
        distance = squares - 2 * np.einsum("nd,d->n", rows, rest)
        distance[chosen] = np.inf
        best = int(np.argmax(distance <= distance.min() + count * _TIE))
        rest -= rows[best]
        chosen.append(best)
    return chosen


def choose(candidates: Examples, centres: Centres, per_class: int) -> Examples:
    """The exemplars of each class, class by class in the order of the names, herded.

    A class with fewer candidates than `per_class` keeps all of them, with one warning for all
    such classes.
    """
    counts = Counter(candidates.labels)
    if short := sum(count < per_class for count in counts.values()):
        log.warning(
            "%d of %d classes have fewer than %d images to choose exemplars from: all of these "
            "images are kept",
            short,
            len(counts),
            per_class,
        )
    return herded(candidates, per_class, centres)


def herded(examples: Examples, per_class: int, centres: Centres | None = None) -> Examples:
    """At most so many images of each class, class by class in the order of the names.

    Args:
        examples: raw features.
        per_class: how many.
        centres: what each class is herded towards; None for the mean of its own images here.
    """
    chosen: list[int] = []
    for name, rows in _by_class(examples):
        vectors = examples.vectors[np.array(rows, np.intp)]
        target = None if centres is None else centres[name].mean
        chosen += [rows[row] for row in herd(vectors, target, per_class)]
    return examples.take(chosen)


def truncated(exemplars: Examples, per_class: int) -> Examples:
    """The first exemplars of each class: the herding of a smaller budget."""
    seen: dict[str, int] = {}
    first = []
    for row, name in enumerate(exemplars.labels):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] <= per_class:
            first.append(row)
    return exemplars.take(first)


def _by_class(examples: Examples) -> Iterator[tuple[str, list[int]]]:
    """Each class with its rows in the order of their hashes; classes in the order of names."""
    labels, hashes = examples.labels, examples.hashes
    order = sorted(range(len(examples)), key=lambda row: (labels[row], hashes[row]))
    for name, rows in groupby(order, key=labels.__getitem__):
        yield name, list(rows)
