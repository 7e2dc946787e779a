"""How far apart a head's logits are: the unit in which temperatures of rounds can be compared.

A temperature that fits one round says little about the next: the logits of lda shrink as images
arrive, and those of ridge are a hundred times smaller. Divided by the separation it hardly changes
(docs/decisions/0003-temperature.md has the figures).
"""

import math

import numpy as np

from tlcli.heads.linear import LinearHead
from tlcli.moments import Moments


def separation(head: LinearHead, moments: Moments) -> float:
    """Mean over the classes of (logit of the class at its own mean − mean of the other logits)."""
    if len(head.classes) < 2:
        return 0.0
    unit = 2.0**-moments.bits
    means = (moments.sums * (unit / moments.counts[:, None])).astype(np.float32)
    logits = head.ordered(moments.classes).logits(means).astype(np.float64)
    own = np.diag(logits)
    others = (logits.sum(axis=1) - own) / (len(own) - 1)
    return float((own - others).mean())


def blend(measured: tuple[float, int], carried: tuple[float, int]) -> float:
    """The mean of two temperatures in proportion to the images behind them, as logarithms.

    Args:
        measured: temperature, and the number of images that it was measured on.
        carried: the same of the rounds before.
    """
    (a, n), (b, m) = measured, carried
    return math.exp((n * math.log(a) + m * math.log(b)) / (n + m))
