"""How far the probabilities of an exported file are from those of the run.

Symbols: p the run's probabilities (n, C), q the file's. Logits are known up to a constant an image:
x = log p − mean log p are the run's, y the file's. The deviation is max |y − x|; the spread is the
root of the mean of x². Float32 carries about seven digits of a logit, so what is acceptable grows
with the spread: a head that is sure of itself has logits of 30, or of 300 far from its images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-4
"""Largest deviation of a file that is published; times the spread, where that is above 1."""

_SMALLEST = 1e-30
"""Probabilities below are left out: near 1e-38 float32 loses digits and runtimes round to zero."""


@dataclass(frozen=True)
class Parity:
    """How close a file's logits are to the run's."""

    deviation: float
    """Infinite where the file gives no probability."""
    spread: float

    @property
    def limit(self) -> float:
        """The largest deviation with which a file is published."""
        return TOLERANCE * max(1.0, self.spread)

    @property
    def fine(self) -> bool:
        """Whether the file may be published."""
        return self.deviation <= self.limit


def compare(expected: NDArray[np.float64], received: NDArray[np.floating]) -> Parity:
    """How close a file's probabilities (n, C) are to those expected, the run's (n, C)."""
    logits = [_centred(run[run > _SMALLEST]) for run in expected]
    spread = float(np.sqrt(np.mean(np.concatenate(logits) ** 2)))
    if expected.shape != received.shape or not np.isfinite(received).all():
        return Parity(float("inf"), spread)
    kept = [file[run > _SMALLEST] for run, file in zip(expected, received, strict=True)]
    if not all((file > 0).all() for file in kept):
        return Parity(float("inf"), spread)
    differences = [np.abs(_centred(file) - own) for file, own in zip(kept, logits, strict=True)]
    return Parity(float(max(difference.max() for difference in differences)), spread)


def _centred(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    logs = np.log(probabilities.astype(np.float64))
    return np.asarray(logs - logs.mean())
