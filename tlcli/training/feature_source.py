"""Feature vectors in place of pixels, for what is trained without the backbone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tlcli.training.image_source import Check

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """The vectors of n images in a fixed order."""

    vectors: Float32
    """(n, D)"""

    def __len__(self) -> int:
        return len(self.vectors)

    def seen_in(self, epoch: int, check: Check) -> Self:
        """The same in every epoch."""
        return self

    def batches(self, order: NDArray[np.intp], batch_size: int) -> Iterator[Float32]:
        """Yield the vectors of `order`, a batch at a time; the last may be smaller."""
        for start in range(0, len(order), batch_size):
            yield self.vectors[order[start : start + batch_size]]
