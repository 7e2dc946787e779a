"""How good a head is: predictions → figures. What was not measured is None, never a guess."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.errors import TlcliError
from tlcli.features import Examples
from tlcli.heads import Fit, Known, LinearHead, Recipe, expected_calibration_error
from tlcli.images import Skipped, folds, holdout
from tlcli.moments import Rows
from tlcli.runs import RegisteredClass

log = logging.getLogger(__name__)

FOLDS = 5
HELD_OUT = 0.2
"""Share of the images that a gradient-trained head is tested on."""

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
        return _true_columns(self.classes, list(self.true))

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
            return _accuracy_of(said == self.true, self.true, wanted)

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


@dataclass(frozen=True, eq=False)
class RoundHead:
    """One round's head, and the test images in the feature space of that round's backbone."""

    number: int
    head: LinearHead
    vectors: Rows
    """(n, D) the same test images for every round."""


@dataclass(frozen=True)
class Gate:
    """A limit that a figure must keep."""

    name: str
    limit: float
    value: float | None
    """None: it could not be measured."""
    passed: bool

    def to_text(self) -> str:
        """Name, measured value and limit."""
        value = "unknown" if self.value is None else f"{self.value:.4f}"
        return f"{self.name} is {value}, limit {self.limit:g}"


@dataclass(frozen=True)
class ClassFigures:
    """How one class fares; the figures are None where the test holds no image of it."""

    name: str
    introduced_in_round: int
    images: int
    accuracy: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class RoundFigures:
    """How one round's head fares on the test images of the classes that it knew."""

    round: int
    accuracy: float | None
    accuracy_by_introduction: dict[int, float | None]


@dataclass(frozen=True)
class Report:
    """Everything that `evaluate` measures."""

    run: str
    round: int
    images: int
    skipped: tuple[Skipped, ...]
    accuracy: float
    mean_class_accuracy: float
    top5_accuracy: float
    old_accuracy: float | None
    new_accuracy: float | None
    ece: float
    log_loss: float
    per_class: tuple[ClassFigures, ...]
    rounds: tuple[RoundFigures, ...]
    average_incremental_accuracy: float | None
    forgetting: float | None
    gates: tuple[Gate, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The object that `evaluate --json` prints."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return content | {
            "skipped": [vars(entry) for entry in self.skipped],
            "per_class": [_renamed(vars(entry)) for entry in self.per_class],
            "rounds": [vars(entry) for entry in self.rounds],
            "gates": [vars(gate) for gate in self.gates],
        }


def _renamed(figures: dict[str, Any]) -> dict[str, Any]:
    return {"class": figures["name"]} | {
        key: value for key, value in figures.items() if key != "name"
    }


def evaluate(
    run: str,
    registry: Sequence[RegisteredClass],
    rounds: Sequence[RoundHead],
    labels: Sequence[str],
    skipped: tuple[Skipped, ...],
) -> Report:
    """Measure the last of `rounds`, and the way there, on n labelled test images.

    Args:
        run: name of the run for the report.
        registry: the classes of the last round.
        rounds: every round, oldest first; the vectors of all belong to the same n images.
        labels: the true class name of each image, all known to the last round.
        skipped: test images that could not be read.
    """
    current, true = rounds[-1], np.array(labels, object)
    probabilities = current.head.probabilities(current.vectors)
    predicted = current.head.predict(current.vectors)
    correct = predicted == true
    introduced = {entry.name: entry.introduced_in_round for entry in registry}
    per_class = _per_class(registry, true, predicted)
    matrix = tuple(_round_figures(entry, true, introduced) for entry in rounds)
    last = max(introduced.values())
    return Report(
        run=run,
        round=current.number,
        images=len(true),
        skipped=skipped,
        accuracy=float(correct.mean()),
        mean_class_accuracy=_mean([entry.accuracy for entry in per_class]) or 0.0,
        top5_accuracy=_top_accuracy(probabilities, current.head.classes, labels, 5),
        old_accuracy=_accuracy_of(correct, true, {c for c, k in introduced.items() if k < last}),
        new_accuracy=_accuracy_of(correct, true, {c for c, k in introduced.items() if k == last}),
        ece=expected_calibration_error(probabilities.max(axis=1), correct),
        log_loss=_log_loss(probabilities, current.head.classes, labels),
        per_class=per_class,
        rounds=matrix,
        average_incremental_accuracy=_mean([entry.accuracy for entry in matrix]),
        forgetting=_forgetting(matrix),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _accuracy_of(correct: Mask, true: Names, classes: Collection[str]) -> float | None:
    chosen = np.isin(true, list(classes))
    return float(correct[chosen].mean()) if chosen.any() else None


def _per_class(
    registry: Sequence[RegisteredClass], true: Names, predicted: Names
) -> tuple[ClassFigures, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    names = [entry.name for entry in registry]
    precision, recall, f1, support = precision_recall_fscore_support(
        true.astype(str), predicted.astype(str), labels=names, zero_division=0.0
    )
    return tuple(
        ClassFigures(entry.name, entry.introduced_in_round, int(n), float(r), float(p), float(f))
        if n
        else ClassFigures(entry.name, entry.introduced_in_round, 0, None, None, None)
        for entry, p, r, f, n in zip(registry, precision, recall, f1, support, strict=True)
    )


def _round_figures(entry: RoundHead, true: Names, introduced: dict[str, int]) -> RoundFigures:
    known = np.isin(true, entry.head.classes)
    correct = known & (entry.head.predict(entry.vectors) == true)
    numbers = sorted({introduced[name] for name in entry.head.classes if name in introduced})
    by_introduction = {
        number: _accuracy_of(correct, true, {c for c, k in introduced.items() if k == number})
        for number in numbers
    }
    return RoundFigures(
        entry.number, _accuracy_of(correct, true, entry.head.classes), by_introduction
    )


def _forgetting(matrix: Sequence[RoundFigures]) -> float | None:
    """Mean over earlier introductions k of (best accuracy on k before the last round − now)."""
    now = matrix[-1].accuracy_by_introduction
    drops = []
    for number, accuracy in now.items():
        before = [
            value
            for figures in matrix[:-1]
            if (value := figures.accuracy_by_introduction.get(number)) is not None
        ]
        if before and accuracy is not None:
            drops.append(max(before) - accuracy)
    return float(np.mean(drops)) if drops else None


def _true_columns(classes: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    column = {name: index for index, name in enumerate(classes)}
    return np.array([column[label] for label in labels], np.int64)


def _top_accuracy(
    probabilities: NDArray[np.float64], classes: Sequence[str], labels: Sequence[str], top: int
) -> float:
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return float((best == _true_columns(classes, labels)[:, None]).any(axis=1).mean())


def _log_loss(
    probabilities: NDArray[np.float64], classes: Sequence[str], labels: Sequence[str]
) -> float:
    given = probabilities[np.arange(len(labels)), _true_columns(classes, labels)]
    return float(-np.log(np.maximum(given, np.finfo(np.float64).tiny)).mean())


def with_gates(
    report: Report,
    rounds: Sequence[RoundHead],
    labels: Sequence[str],
    fail_under: float | None,
    max_regression: float | None,
) -> Report:
    """The report with the gates that were asked for.

    Args:
        report: of the same rounds and labels.
        rounds: as for `evaluate`.
        labels: as for `evaluate`.
        fail_under: smallest accuracy that passes.
        max_regression: largest fall of the accuracy on the classes of the previous round,
            against that round, that passes.
    """
    gates = []
    if fail_under is not None:
        gates.append(Gate("fail-under", fail_under, report.accuracy, report.accuracy >= fail_under))
    if max_regression is not None:
        fall = _regression(rounds, np.array(labels, object))
        passed = len(rounds) == 1 or (fall is not None and fall <= max_regression + 1e-9)
        gates.append(Gate("max-regression", max_regression, fall, passed))
    return replace(report, gates=tuple(gates))


def _regression(rounds: Sequence[RoundHead], true: Names) -> float | None:
    """Fall of accuracy from the previous round to the last, on the classes both know."""
    if len(rounds) == 1:
        return None
    before, now = (
        _accuracy_of(entry.head.predict(entry.vectors) == true, true, rounds[-2].head.classes)
        for entry in rounds[-2:]
    )
    return None if before is None or now is None else before - now
