"""Strategies: how the next round's head comes from the parent round and the new features."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tlcli import heads
from tlcli.errors import UsageError
from tlcli.features import Features
from tlcli.heads import Fit, LinearHead, Standardisation
from tlcli.moments import Moments


@dataclass(frozen=True)
class Strategy:
    """One way to extend a head."""

    fit: Callable[[str, LinearHead, tuple[str, ...]], Fit]
    """From the name of the head, the parent's head and the new registry of classes."""
    exact: bool
    """Whether the result equals joint training on all images seen so far."""


def first(head: str) -> Fit:
    """Round 1: the head of this name, columns in sorted order of the classes."""
    if head in heads.FROM_MOMENTS:
        return lambda moments, features: heads.FROM_MOMENTS[head](moments)
    return lambda moments, features: heads.FROM_FEATURES[head](features.vectors[:], features.labels)


def _merge(head: str, parent: LinearHead, classes: tuple[str, ...]) -> Fit:
    solve = heads.FROM_MOMENTS[head]
    return lambda moments, features: solve(moments)


def _freeze_old(head: str, parent: LinearHead, classes: tuple[str, ...]) -> Fit:
    return _gradient(parent, classes, old_columns_move=False)


def _naive(head: str, parent: LinearHead, classes: tuple[str, ...]) -> Fit:
    return _gradient(parent, classes, old_columns_move=True)


def _gradient(parent: LinearHead, classes: tuple[str, ...], old_columns_move: bool) -> Fit:
    grown = grow(parent, classes)
    free = np.ones(len(classes), bool)
    free[: len(parent.classes)] = old_columns_move

    def fit(moments: Moments, features: Features) -> LinearHead:
        frame = Standardisation.of_moments(moments)
        return heads.fit_columns(grown, features.vectors[:], features.labels, frame, free)

    return fit


def grow(head: LinearHead, classes: tuple[str, ...]) -> LinearHead:
    """The head with zero columns for the classes that are new; the old columns keep their bits."""
    new = len(classes) - len(head.classes)
    weights = np.pad(head.weights, ((0, 0), (0, new)))
    return LinearHead(classes, weights, np.pad(head.bias, (0, new)))


STRATEGIES = {
    "merge": Strategy(_merge, exact=True),
    "freeze-old": Strategy(_freeze_old, exact=False),
    "naive": Strategy(_naive, exact=False),
}


def choose(strategy: str | None, head: str, grows: bool) -> str:
    """The name of the strategy to use.

    Args:
        strategy: what the user asked for; None chooses merge where the head allows it.
        head: the name of the head of the new round.
        grows: whether the round adds classes.

    Raises:
        UsageError: the strategy is unknown, or cannot do what is asked.
    """
    solvable = head in heads.FROM_MOMENTS
    chosen = strategy or ("merge" if solvable else "freeze-old")
    if chosen not in STRATEGIES:
        raise UsageError(
            f"Expected a strategy: {', '.join(STRATEGIES)}. Received: strategy={chosen!r}. "
            "Choose one of these."
        )
    if chosen == "merge" and not solvable:
        raise UsageError(
            f"Expected a head that is solved from moments for merge: "
            f"{', '.join(heads.FROM_MOMENTS)}. Received: head={head!r}. "
            "Add --head lda (the run has the moments for it), or use --strategy freeze-old."
        )
    if chosen == "freeze-old" and not grows:
        raise UsageError(
            "Expected new classes for freeze-old. Received: more images of known classes only, "
            "and their columns are frozen. Use --strategy merge."
        )
    return chosen
