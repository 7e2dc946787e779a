"""Two runs on the same images: is one of them better, or was it luck?"""

from dataclasses import dataclass

from tlcli.evaluation.intervals import Interval, interval_of_difference
from tlcli.evaluation.outcomes import Mask


@dataclass(frozen=True)
class Comparison:
    """One run against another, image by image, on the classes that both know."""

    run: str
    """The other run."""
    round: int
    images: int
    classes: int
    """How many both know."""
    accuracy: float
    other_accuracy: float
    both_right: int
    only_this: int
    """Images that only the run that is measured has right."""
    only_other: int
    both_wrong: int
    difference: float
    """accuracy − other_accuracy"""
    interval: Interval
    """95 % confidence interval of the difference, by the bootstrap."""
    p_value: float
    """Of McNemar's exact test: how often chance alone would tell two equal runs as far apart."""


def compare(run: str, number: int, classes: int, this: Mask, other: Mask) -> Comparison:
    """Compare the answers of two runs to the same n ≥ 1 images.

    Args:
        run: name of the other run.
        number: its round.
        classes: how many classes both know.
        this: (n,) whether the run that is measured is right.
        other: (n,) whether the other is.
    """
    only_this, only_other = int((this & ~other).sum()), int((other & ~this).sum())
    return Comparison(
        run=run,
        round=number,
        images=len(this),
        classes=classes,
        accuracy=float(this.mean()),
        other_accuracy=float(other.mean()),
        both_right=int((this & other).sum()),
        only_this=only_this,
        only_other=only_other,
        both_wrong=int((~this & ~other).sum()),
        difference=float(this.mean() - other.mean()),
        interval=interval_of_difference(this, other),
        p_value=mcnemar(only_this, only_other),
    )


def mcnemar(only_this: int, only_other: int) -> float:
    """The two-sided p-value of McNemar's exact test; 1 where the runs never differ.

    Among the images that one alone has right, either is as often the one, if both are equally good.

    Args:
        only_this: images that the first alone has right.
        only_other: images that the second alone has right.

    Sources: McNemar 1947; Dietterich 1998, "Approximate Statistical Tests for Comparing
    Supervised Classification Learning Algorithms".
    """
    from scipy import stats

    if only_this == only_other == 0:
        return 1.0
    return float(stats.binomtest(only_this, only_this + only_other, 0.5).pvalue)
