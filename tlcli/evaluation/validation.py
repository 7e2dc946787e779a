"""The figures of a new round, on images that were held out of it."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tlcli.errors import TlcliError
from tlcli.features import Examples, among
from tlcli.heads import Evidence, Fit, LinearHead, Recipe, expected_calibration_error, softmax
from tlcli.images import HELD_OUT, TRAINED_ONLY, folds, holdout, units

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
class HeldOutPredictions:
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


def on_test(head: LinearHead, parent: LinearHead | None, test: Examples) -> HeldOutPredictions:
    """What a round and its parent say of images that were set aside by the user."""
    before = None if parent is None else parent.predict(test.vectors)
    true = np.array(test.labels, object)
    return HeldOutPredictions("test", head.classes, true, head.logits(test.vectors), before)


def accuracies(answers: HeldOutPredictions) -> tuple[float, float]:
    """Accuracy over all images, and the mean of the classes' accuracies."""
    correct = answers.logits.argmax(axis=1) == answers.columns
    by_class = [correct[answers.columns == column].mean() for column in set(answers.columns)]
    return float(correct.mean()), float(np.mean(by_class))


def calibration_error(answers: HeldOutPredictions, temperature: float) -> float | None:
    """Expected calibration error with a temperature; None where there are no answers."""
    if not len(answers.true):
        return None
    confidence = softmax(answers.logits, temperature).max(axis=1)
    correct = answers.logits.argmax(axis=1) == answers.columns
    return expected_calibration_error(confidence, correct)


ValidationScheme = Callable[[Fit, Evidence, tuple[str, ...], bool], HeldOutPredictions]
"""A way to hold images out: see `cross_validate`, whose arguments it takes."""


def scheme_for(recipe: Recipe) -> ValidationScheme:
    """How a head of this recipe is asked about images that it has not learned."""
    return cross_validate_anew if recipe.from_moments else cheapest


def cross_validate(
    fit: Fit, evidence: Evidence, classes: tuple[str, ...], old_too: bool
) -> HeldOutPredictions:
    """k-fold subtraction: solve without a fold's images, ask about them.

    A class with one image in all, or one group, cannot be tested this way and is left out.

    Args:
        fit: solves the head.
        evidence: what the round was solved from.
        classes: its registry.
        old_too: whether earlier images are tested too.
    """
    new, old = _assigned(partial(folds, k=FOLDS), evidence, old_too)
    if not old_too:
        old[:] = TRAINED_ONLY
    single = _single_classes(evidence)
    if evidence.grouped:
        single += _never_tested(evidence, new, old, old_too)
    for part, assigned in ((evidence.new, new), (evidence.old, old)):
        assigned[np.isin(np.array(part.labels, object), single)] = TRAINED_ONLY
    # The parent's head is solved again without a fold: no class may vanish from it.
    alone = [name for name, count in Counter(evidence.old.labels).items() if count == 1]
    old[np.isin(np.array(evidence.old.labels, object), alone)] = TRAINED_ONLY
    masks = [(new == fold, old == fold) for fold in range(FOLDS)]
    answers = _held_out("cross-validation", fit, evidence, classes, masks)
    return replace(answers, untestable=tuple(single))


def cross_validate_anew(
    fit: Fit, evidence: Evidence, classes: tuple[str, ...], old_too: bool
) -> HeldOutPredictions:
    """As `cross_validate`, for a head that is solved anew: from moments sooner, of few images."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # as in Recipe.solve
        return cross_validate(fit, evidence.to_test, classes, old_too)


def hold_out(
    fit: Fit, evidence: Evidence, classes: tuple[str, ...], old_too: bool
) -> HeldOutPredictions:
    """Fit without a share of the images that their content hash chooses, ask about them."""
    return _held_out("holdout", fit, evidence, classes, [_holdout(evidence, old_too)])


def cheapest(
    fit: Fit, evidence: Evidence, classes: tuple[str, ...], old_too: bool
) -> HeldOutPredictions:
    """For heads that take long to solve: by holdout, or by folds where a class went untested."""
    labels = (*evidence.new.labels, *(evidence.old.labels if old_too else ()))
    tested = _names(evidence, *_holdout(evidence, old_too))
    scheme = hold_out if set(labels) <= tested else cross_validate
    return scheme(fit, evidence, classes, old_too)


def _holdout(evidence: Evidence, old_too: bool) -> tuple[Mask, Mask]:
    """Which new and which old images their content hash holds out."""
    new, old = _assigned(_held_out_as_fold, evidence, old_too)
    return new != TRAINED_ONLY, (old != TRAINED_ONLY) & old_too


def _names(evidence: Evidence, new: Mask, old: Mask) -> set[str]:
    """The classes of new and old images under masks."""
    pairs = ((evidence.new, new), (evidence.old, old))
    return {name for part, mask in pairs for name in np.array(part.labels, object)[mask]}


Folds = NDArray[np.int64]
"""(n,) the fold of each image, or TRAINED_ONLY."""


def _held_out_as_fold(
    hashes: Sequence[str], labels: Sequence[str], groups: Sequence[str] = ()
) -> Folds:
    return np.where(holdout(hashes, labels, HELD_OUT, groups), 0, TRAINED_ONLY)


def _assigned(
    split: Callable[..., Folds], evidence: Evidence, old_too: bool
) -> tuple[Folds, Folds]:
    """What becomes of the new and of the old images; no group is divided, also between these.

    Args:
        split: from hashes, labels and groups to folds.
        evidence: what the round was solved from.
        old_too: whether earlier images can be held out.
    """
    new, old = evidence.new, evidence.old
    if not evidence.grouped:
        return split(new.hashes, new.labels), split(old.hashes, old.labels)
    both = new.joined(old)
    fold = split(both.hashes, both.labels, groups=both.groups)
    stay = evidence.learned_groups | (frozenset() if old_too else frozenset(old.groups))
    fold[among(both.all_groups(), stay - {""})] = TRAINED_ONLY
    if evidence.parent is not None:
        _spare(both, fold, len(new))
    return fold[: len(new)], fold[len(new) :]


def _spare(both: Examples, fold: Folds, new: int) -> None:
    """Leave every class of the parent an old image to be solved from, whatever is held out."""
    keys = np.array(units(both.hashes, both.groups), object)
    labels = np.array(both.labels, object)
    old = np.arange(len(both)) >= new
    classes = [old & (labels == name) for name in set(labels[old])]
    spared = [max(keys[rows]) for rows in classes if len(set(fold[rows])) == 1]
    fold[np.isin(keys, spared)] = TRAINED_ONLY


def _never_tested(evidence: Evidence, new: Folds, old: Folds, old_too: bool) -> list[str]:
    """Classes of which no image can be tested, as all stay to be learned from."""
    parts = [(evidence.new, new), *([(evidence.old, old)] if old_too else [])]
    here = {name for part, _ in parts for name in part.labels}
    tested = {
        name
        for part, fold in parts
        for name, number in zip(part.labels, fold, strict=True)
        if number != TRAINED_ONLY
    }
    return sorted(here - tested)


def _single_classes(evidence: Evidence) -> list[str]:
    if evidence.moments is not None:
        counted = zip(evidence.moments.classes, evidence.moments.counts, strict=True)
        return [name for name, count in counted if count == 1]
    return [name for name, count in Counter(evidence.new.labels).items() if count == 1]


def _held_out(
    method: str,
    fit: Fit,
    evidence: Evidence,
    classes: tuple[str, ...],
    masks: Sequence[tuple[Mask, Mask]],
) -> HeldOutPredictions:
    """Answers about the images of masks over new and old ones, left out in turn."""
    true: list[str] = []
    logits = [np.zeros((0, len(classes)), np.float32)]
    before: list[Names] = []
    comparable = True
    for new, old in masks:
        if not (new.any() or old.any()):
            continue
        rest = evidence.without(new, old)
        try:
            head = fit(rest).ordered(classes)
        except TlcliError as error:
            log.warning("the round could not be validated: %s", error)
            return _nothing_asked(method, classes)
        # A parent that has learned the images would look better than it is.
        comparable &= rest.parent is not None and (rest.refit is not None or not old.any())
        for part, mask in ((evidence.new, new), (evidence.old, old)):
            asked = part.where(mask)
            true += asked.labels
            logits.append(head.logits(asked.vectors))
            if rest.parent is not None:
                before.append(rest.parent.predict(asked.vectors))
    return HeldOutPredictions(
        method,
        classes,
        np.array(true, object),
        np.concatenate(logits),
        np.concatenate(before) if before and comparable else None,
    )


def _nothing_asked(method: str, classes: tuple[str, ...]) -> HeldOutPredictions:
    nothing = np.zeros((0, len(classes)), np.float32)
    return HeldOutPredictions(method, classes, np.zeros(0, object), nothing, None)
