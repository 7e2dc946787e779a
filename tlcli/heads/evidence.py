"""What the head of a round may be solved from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tlcli import moments
from tlcli.features import Examples
from tlcli.heads.linear import LinearHead
from tlcli.heads.span import Span
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
    learned_groups: frozenset[str] = frozenset()
    """Of earlier images that are not among `old`: nothing of them can be held out."""
    span: Span | None = None
    """The images in coordinates of their span, where a head is sought that is only tested: those
    from moments are solved in it, and `without` leaves no `moments` beside it."""

    @property
    def grouped(self) -> bool:
        """Whether images belong together that must be held out together."""
        return bool(self.new.groups or self.old.groups)

    @property
    def groups(self) -> frozenset[str]:
        """Of all images that are learned."""
        found = self.learned_groups.union(self.new.groups, self.old.groups)
        return found - {""}

    @cached_property
    def to_test(self) -> "Evidence":
        """The same for heads from moments that are solved without some images, to be tested."""
        if self.moments is None:
            return self
        return replace(self, span=Span.of(self.new.joined(self.old), self.moments))

    def without(self, new: NDArray[np.bool_], old: NDArray[np.bool_]) -> "Evidence":
        """What would be known had the images of two masks never been seen.

        Args:
            new: over `self.new`.
            old: over `self.old`; where it names any, `refit` must be there.
        """
        total, span, parent = self.moments, self.span, self.parent
        refit = self.refit if old.any() and parent is not None else None
        if span is not None:
            span = span.without(np.concatenate([new, old]))
        if total is not None and (span is None or refit is not None):
            total = moments.subtract(total, moments_like(total, self.new.where(new)))
            total = moments.subtract(total, moments_like(total, self.old.where(old)))
        left, kept = self.new.where(~new), self.old.where(~old)
        if parent is not None and refit is not None:
            before = None
            if total is not None:
                before = moments.subtract(total, moments_like(total, left))
            parent = refit(before, kept).ordered(parent.classes)
        known = total if span is None else None
        return replace(self, moments=known, new=left, old=kept, parent=parent, span=span)


def moments_like(space: Moments, examples: Examples) -> Moments:
    """The moments of examples in the space of others."""
    return moments.of(examples.vectors, examples.labels, space.fingerprint, space.bits)


Fit = Callable[[Evidence], LinearHead]
"""The head of a round from what is known. Called again without the held-out images when the round
is validated: it depends on nothing else."""
