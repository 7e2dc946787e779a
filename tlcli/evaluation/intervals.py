"""How sure the figures are: percentile bootstrap over the test images.

Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from tlcli.evaluation.outcomes import Mask, Outcomes, figures

LEVEL = 0.95
RESAMPLES = 1000
_SEED = 0

Interval = list[float]
"""Lower and upper bound."""


def intervals(outcomes: Outcomes, old: Mask) -> dict[str, Interval | None]:
    """The 95 % confidence interval of each of the `Figures`, by its name.

    A figure that is perfect on every image has an interval of no width: the bootstrap cannot know
    of mistakes that it has not seen.

    Args:
        outcomes: of n ≥ 1 images.
        old: (n,) whether the image is of an old class.
    """
    drawn = [asdict(figures(outcomes, old, weights)) for weights in resamples(len(outcomes))]
    return {name: _percentiles([entry[name] for entry in drawn]) for name in drawn[0]}


def interval_of_difference(this: Mask, other: Mask) -> Interval:
    """The interval of the difference of two accuracies on the same n ≥ 1 images.

    Args:
        this: (n,) whether the first is right.
        other: (n,) whether the second is.
    """
    gains = this.astype(np.float64) - other
    return percentiles([float(weights @ gains / len(gains)) for weights in resamples(len(gains))])


def resamples(count: int) -> Iterator[NDArray[np.float64]]:
    """How often each of `count` images was drawn, `RESAMPLES` times; always the same."""
    random = np.random.default_rng(_SEED)
    for _ in range(RESAMPLES):
        drawn = random.integers(count, size=count)
        yield np.bincount(drawn, minlength=count).astype(np.float64)


def _percentiles(values: Sequence[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return percentiles(known) if known else None


def percentiles(values: Sequence[float]) -> Interval:
    """The interval that the figures of resamples give."""
    margin = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [margin, 100 - margin])
    return [float(low), float(high)]
