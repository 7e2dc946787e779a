"""How far apart a head's logits are: the unit in which temperatures of rounds can be compared.

A temperature that fits one round says little about the next: the logits of lda shrink as images
arrive, and those of ridge are a hundred times smaller. Divided by the separation it hardly changes
(docs/decisions/0003-temperature.md has the figures).
"""

import math

import numpy as np

from tlcli import gaussian
from tlcli.heads.linear import LinearHead
from tlcli.moments import Moments


def margin(head: LinearHead, moments: Moments) -> float:
    """Mean over the classes of (logit of the class at its own mean − mean of the other logits)."""
    if len(head.classes) < 2:
        return 0.0
    means = gaussian.means(moments).astype(np.float32)
    logits = head.ordered(moments.classes).logits(means).astype(np.float64)
    own = np.diag(logits)
    others = (logits.sum(axis=1) - own) / (len(own) - 1)
    return float((own - others).mean())


USUAL = 0.08
"""Temperature of most heads on most features, as a share of the separation."""

_SENSIBLE = (0.005, 1.0)
"""The same of any head: beyond, a temperature says how few images it was fitted to."""


def default_temperature(head: LinearHead, moments: Moments | None) -> float:
    """The temperature of a head that no image has tested; 1 without moments."""
    unit = 0.0 if moments is None else margin(head, moments)
    return USUAL * unit if unit > 0 else 1.0


def clipped_temperature(temperature: float, head: LinearHead, moments: Moments | None) -> float:
    """A measured temperature, held within what is to be believed where moments can tell."""
    unit = 0.0 if moments is None else margin(head, moments)
    if unit <= 0:
        return temperature
    return min(max(temperature, _SENSIBLE[0] * unit), _SENSIBLE[1] * unit)


def blend(measured: tuple[float, int], carried: tuple[float, int]) -> float:
    """The mean of two temperatures in proportion to the images behind them, as logarithms.

    Args:
        measured: temperature, and the number of images that it was measured on.
        carried: the same of the rounds before.
    """
    (a, n), (b, m) = measured, carried
    return math.exp((n * math.log(a) + m * math.log(b)) / (n + m))
