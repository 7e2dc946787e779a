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
