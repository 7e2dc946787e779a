"""In which order an epoch goes through the images: a function of the seed and the epoch alone."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Columns = NDArray[np.int64]
Rows = NDArray[np.intp]

Order = Callable[[Columns, int, int], Rows]
"""(class column (n,) of each image, seed, epoch) → rows in the order in which they are learned."""


def shuffled(columns: Columns, seed: int, epoch: int) -> Rows:
    """Every image once, at random; epoch 0 is the search for a learning rate."""
    return np.random.default_rng([seed, epoch]).permutation(len(columns))


def by_class(classes: int, images: int) -> Order:
    """Batches of `classes` classes with `images` images each, P×K; every class comes as often.

    An epoch has as many rows as images, rounded up to whole batches. A class of fewer images gives
    some of them twice, one of a single image is left out.
    """

    def order(columns: Columns, seed: int, epoch: int) -> Rows:
        random = np.random.default_rng([seed, epoch])
        members = [
            rows for c in np.unique(columns) if len(rows := np.flatnonzero(columns == c)) > 1
        ]
        batches = -(-len(columns) // (classes * images))
        chosen = [
            _some(members[place], images, random)
            for _ in range(batches)
            for place in random.choice(len(members), classes, replace=False)
        ]
        return np.concatenate(chosen)

    return order


def _some(rows: Rows, count: int, random: np.random.Generator) -> Rows:
    """That many of them at random, none twice before all were taken."""
    return np.resize(random.permutation(rows), count)
