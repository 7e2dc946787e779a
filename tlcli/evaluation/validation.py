"""The figures of a new round, on images that were held out of it."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tlcli.errors import TlcliError
from tlcli.features import Examples
from tlcli.heads import Fit, Known, LinearHead, Recipe, expected_calibration_error
from tlcli.images import HELD_OUT, folds, holdout

log = logging.getLogger(__name__)

FOLDS = 5

Names = NDArray[np.object_]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Validation:
    """Accuracy of a new round; each figure only if every class it speaks of had test images."""

    accuracy: float | None
    old_accuracy: float | None
    new_accuracy: float | None
    old_accuracy_before: float | None
    """Of the parent round on the same images of the old classes."""
    images: int
    method: str
    """`test`, `cross-validation` or `holdout`."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What heads say of n images that they have not learned."""

    method: str
    classes: tuple[str, ...]
    true: Names
    """(n,) class names."""
    logits: NDArray[np.float32]
    """(n, C)"""
    before: Names | None
    """(n,) what the parent round says; None where there is none."""
    untestable: tuple[str, ...] = ()
    """Classes that cannot be tested; the figures speak of the others."""

    @property
    def columns(self) -> NDArray[np.int64]:
        """(n,) the column of the true class."""
        column = {name: index for index, name in enumerate(self.classes)}
        return np.array([column[name] for name in self.true], np.int64)

    def validation(self, old: Collection[str]) -> Validation:
        """The figures; None for a set of classes of which one has no image here.

        Args:
            old: classes that were introduced before the round.
        """
        predicted = np.array(self.classes, object)[self.logits.argmax(axis=1)]
        here = set(self.true)

        def accuracy(said: Names | None, wanted: Collection[str]) -> float | None:
            if said is None or not wanted or not set(wanted) <= here:
                return None
            return float((said == self.true)[np.isin(self.true, list(wanted))].mean())

        tested = [name for name in self.classes if name not in self.untestable]
        earlier = [name for name in tested if name in old]
        return Validation(
            accuracy(predicted, tested),
            accuracy(predicted, earlier),
            accuracy(predicted, [name for name in tested if name not in old]),
            accuracy(self.before, earlier),
            len(self.true),
            self.method,
        )


def on_test(head: LinearHead, parent: LinearHead | None, test: Examples) -> Answers:
    """What a round and its parent say of images that were set aside by the user."""
    before = None if parent is None else parent.predict(test.vectors)
    true = np.array(test.labels, object)
    return Answers("test", head.classes, true, head.logits(test.vectors), before)


def accuracies(answers: Answers) -> tuple[float, float]:
    """Accuracy over all images, and the mean of the classes' accuracies."""
    correct = answers.logits.argmax(axis=1) == answers.columns
    by_class = [correct[answers.columns == column].mean() for column in set(answers.columns)]
    return float(correct.mean()), float(np.mean(by_class))


def calibration_error(answers: Answers, temperature: float) -> float | None:
    """Expected calibration error with a temperature; None where there are no answers."""
    if not len(answers.true):
        return None
    logits = answers.logits.astype(np.float64) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = powers.max(axis=1) / powers.sum(axis=1)
    correct = logits.argmax(axis=1) == answers.columns
    return expected_calibration_error(confidence, correct)


Ask = Callable[[Fit, Known, tuple[str, ...], bool], Answers]
"""A way to hold images out: see `by_folds`, whose arguments it takes."""


def ask_for(recipe: Recipe) -> Ask:
    """How a head of this recipe is asked about images that it has not learned."""
    return by_folds if recipe.from_moments else by_fewest_fits


def by_folds(fit: Fit, known: Known, classes: tuple[str, ...], old_too: bool) -> Answers:
    """k-fold subtraction: solve without a fold's images, ask about them.

    A class with one image in all cannot be tested this way and is left out.

    Args:
        fit: solves the head.
        known: what the round was solved from.
        classes: its registry.
        old_too: whether earlier images are tested too.
    """
    new, old = (folds(part.hashes, part.labels, FOLDS) for part in (known.new, known.old))
    if not old_too:
        old[:] = -1
    single = _single_classes(known)
    for part, assigned in ((known.new, new), (known.old, old)):
        assigned[np.isin(np.array(part.labels, object), single)] = -1
    # The parent's head is solved again without a fold: no class may vanish from it.
    alone = [name for name, count in Counter(known.old.labels).items() if count == 1]
    old[np.isin(np.array(known.old.labels, object), alone)] = -1
    masks = [(new == fold, old == fold) for fold in range(FOLDS)]
    answers = _held_out("cross-validation", fit, known, classes, masks)
    return replace(answers, untestable=tuple(single))


def by_holdout(fit: Fit, known: Known, classes: tuple[str, ...], old_too: bool) -> Answers:
    """Fit without a share of the images that their content hash chooses, ask about them."""
    new, old = (holdout(part.hashes, part.labels, HELD_OUT) for part in (known.new, known.old))
    return _held_out("holdout", fit, known, classes, [(new, old & old_too)])


def by_fewest_fits(fit: Fit, known: Known, classes: tuple[str, ...], old_too: bool) -> Answers:
    """For heads that take long to solve: by holdout, or by folds where a class went untested."""
    answers = by_holdout(fit, known, classes, old_too)
    here = {*known.new.labels, *(known.old.labels if old_too else ())}
    if here <= set(answers.true):
        return answers
    return by_folds(fit, known, classes, old_too)


def _single_classes(known: Known) -> list[str]:
    if known.moments is not None:
        counted = zip(known.moments.classes, known.moments.counts, strict=True)
        return [name for name, count in counted if count == 1]
    return [name for name, count in Counter(known.new.labels).items() if count == 1]


def _held_out(
    method: str,
    fit: Fit,
    known: Known,
    classes: tuple[str, ...],
    masks: Sequence[tuple[Mask, Mask]],
) -> Answers:
    """Answers about the images of masks over `known.new` and `known.old`, left out in turn."""
    true: list[str] = []
    logits = [np.zeros((0, len(classes)), np.float32)]
    before: list[Names] = []
    comparable = True
    for new, old in masks:
        if not (new.any() or old.any()):
            continue
        rest = known.without(new, old)
        try:
            head = fit(rest).ordered(classes)
        except TlcliError as error:
            log.warning("the round could not be validated: %s", error)
            return _nothing_asked(method, classes)
        # A parent that has learned the images would look better than it is.
        comparable &= rest.parent is not None and (rest.again is not None or not old.any())
        for part, mask in ((known.new, new), (known.old, old)):
            asked = part.where(mask)
            true += asked.labels
            logits.append(head.logits(asked.vectors))
            if rest.parent is not None:
                before.append(rest.parent.predict(asked.vectors))
    return Answers(
        method,
        classes,
        np.array(true, object),
        np.concatenate(logits),
        np.concatenate(before) if before and comparable else None,
    )


def _nothing_asked(method: str, classes: tuple[str, ...]) -> Answers:
    nothing = np.zeros((0, len(classes)), np.float32)
    return Answers(method, classes, np.zeros(0, object), nothing, None)
