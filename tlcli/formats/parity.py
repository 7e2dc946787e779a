"""How far the probabilities of an exported file are from those of the run.

Symbols: p the run's probabilities (n, C), q the file's, d = log q − log p. Logits are known up to a
constant an image; the deviation is max |d − mean d|, the largest difference of centred logits.
"""

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-4
"""Largest deviation of a file that is published, in float32."""

_SMALLEST = 1e-30
"""Probabilities below are left out: near 1e-38 float32 loses digits and runtimes round to zero."""


def deviation(expected: NDArray[np.float64], received: NDArray[np.float32]) -> float:
    """The largest difference of centred logits; infinite where a file gives no probability.

    Args:
        expected: (n, C), the run's probabilities.
        received: (n, C), the file's.
    """
    if expected.shape != received.shape:
        return float("inf")
    largest = 0.0
    for run, file in zip(expected, received.astype(np.float64), strict=True):
        kept = run > _SMALLEST
        if not (np.isfinite(file).all() and (file[kept] > 0).all()):
            return float("inf")
        difference = np.log(file[kept]) - np.log(run[kept])
        largest = max(largest, float(np.abs(difference - difference.mean()).max()))
    return largest
