"""What the head of a round may be solved from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlcli import moments
from tlcli.features import Examples
from tlcli.heads.linear import LinearHead
from tlcli.moments import Moments

Refit = Callable[[Moments | None, Examples], LinearHead]
"""From the moments and the examples of the parent round, its head solved again."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The images of a round and what is left of the earlier ones."""

    moments: Moments | None
    """Of all images so far, the new ones included; None where the run keeps none."""
    new: Examples
    """The images of this round."""
    old: Examples
    """Earlier images whose features are known: all of them, a few, or none."""
    parent: LinearHead | None = None
    """The head of the parent round; None in the first."""
    refit: Refit | None = None
    """Solves the parent's head again without some of its images, where that can be done."""
    sample: Examples | None = None
    """Some images of the usual kind, whose classes nobody knows; their labels say nothing."""

    def without(self, new: NDArray[np.bool_], old: NDArray[np.bool_]) -> "Evidence":
        """What would be known had the images of two masks never been seen.

        Args:
            new: over `self.new`.
            old: over `self.old`; where it names any, `refit` must be there.
        """
        total, parent = self.moments, self.parent
        if total is not None:
            total = moments.subtract(total, moments_like(total, self.new.where(new)))
            total = moments.subtract(total, moments_like(total, self.old.where(old)))
        left, kept = self.new.where(~new), self.old.where(~old)
        if old.any() and parent is not None and self.refit is not None:
            before = None
            if total is not None:
                before = moments.subtract(total, moments_like(total, left))
            parent = self.refit(before, kept).ordered(parent.classes)
        return Evidence(total, left, kept, parent, self.refit, self.sample)


def moments_like(space: Moments, examples: Examples) -> Moments:
    """The moments of examples in the space of others."""
    return moments.of(examples.vectors, examples.labels, space.fingerprint, space.bits)


Fit = Callable[[Evidence], LinearHead]
"""The head of a round from what is known. Called again without the held-out images when the round
is validated: it depends on nothing else."""
