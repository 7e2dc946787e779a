"""The learning rate of the head at each step: warm-up and cosine; or found by a search."""

import math
from collections.abc import Callable

import numpy as np

WARM_UP = 0.05
"""Share of the steps in which the rate rises from zero, in a straight line."""

SEARCH_STEPS = 100
LOWEST, HIGHEST = 1e-5, 1.0
_SMOOTHING = 0.9
_DIVERGED = 4.0
"""A smoothed loss this many times the smallest one ends the search."""
_MARGIN = 10.0


def rate_at(step: int, steps: int, peak: float) -> float:
    """The learning rate of a step, counted from 0: linear warm-up, then half a cosine to zero.

    Args:
        step: 0 to steps - 1.
        steps: of the whole training.
        peak: the largest rate.

    Source: Loshchilov & Hutter, SGDR, ICLR 2017; warm-up: Goyal et al. 2017.
    """
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def search(loss_at: Callable[[float], float]) -> float:
    """A learning rate for the head, by a range test.

    The rate rises geometrically from step to step. The rate at which the smoothed loss is smallest,
    divided by ten, is returned: there training is fast and not yet about to diverge.

    Args:
        loss_at: takes one training step with a rate; the loss before it.

    Source: Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017.
    """
    rates = np.geomspace(LOWEST, HIGHEST, SEARCH_STEPS)
    average, best, chosen = 0.0, math.inf, float(rates[0])
    for count, rate in enumerate(rates, 1):
        loss = loss_at(float(rate))
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        smoothed = average / (1 - _SMOOTHING**count)
        if not math.isfinite(loss) or smoothed > _DIVERGED * best:
            break
        if smoothed < best:
            best, chosen = smoothed, float(rate)
    return max(chosen / _MARGIN, LOWEST)
