"""Everything that `evaluate` measures: predictions → figures. What was not measured is None."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.evaluation.contents import (
    Bin,
    Cell,
    ClassFigures,
    Mistake,
    Report,
    RoundFigures,
    RoundHead,
)
from tlcli.evaluation.gates import Limits, gates
from tlcli.evaluation.intervals import intervals
from tlcli.evaluation.outcomes import Figures, Mask, Outcomes, figures
from tlcli.heads import ECE_BINS, reliability
from tlcli.images import Skipped
from tlcli.manifest import RegisteredClass

Names = NDArray[np.object_]

MOST_MISTAKES = 24
"""That are listed."""


def evaluate(
    run: str,
    registry: Sequence[RegisteredClass],
    rounds: Sequence[RoundHead],
    labels: Sequence[str],
    skipped: tuple[Skipped, ...],
) -> Report:
    """Measure the last of `rounds`, and the way there, on n ≥ 1 labelled test images.

    Args:
        run: name of the run for the report.
        registry: the classes of the last round.
        rounds: every round, oldest first; the vectors of all belong to the same n images.
        labels: the true class name of each image, all known to the last round.
        skipped: test images that could not be read.
    """
    current = rounds[-1]
    outcomes = Outcomes.of(current.head, current.vectors, labels)
    introduced = {entry.name: entry.introduced_in_round for entry in registry}
    matrix = tuple(_round_figures(entry, labels, introduced) for entry in rounds)
    return Report(
        run=run,
        round=current.number,
        images=len(outcomes),
        skipped=skipped,
        figures=figures(outcomes, old_classes(outcomes, introduced)),
        per_class=_per_class(registry, outcomes),
        confusion=_confusion(outcomes),
        reliability=_reliability(outcomes),
        mistakes=_mistakes(outcomes),
        rounds=matrix,
        average_incremental_accuracy=_mean([entry.accuracy for entry in matrix]),
        forgetting=_forgetting(matrix),
    )


def in_detail(
    report: Report,
    registry: Sequence[RegisteredClass],
    rounds: Sequence[RoundHead],
    labels: Sequence[str],
    all_rounds: bool,
) -> Report:
    """The report with confidence intervals, and with every figure of every round if asked for.

    Args:
        report: what `evaluate` returned for the same arguments.
        registry: as for `evaluate`.
        rounds: as for `evaluate`.
        labels: as for `evaluate`.
        all_rounds: whether earlier rounds are measured as fully as the last one.
    """
    introduced = {entry.name: entry.introduced_in_round for entry in registry}
    outcomes = Outcomes.of(rounds[-1].head, rounds[-1].vectors, labels)
    matrix = report.rounds
    if all_rounds:
        matrix = tuple(
            replace(found, more=_all_figures(entry, labels, introduced))
            for found, entry in zip(report.rounds, rounds, strict=True)
        )
    found = intervals(outcomes, old_classes(outcomes, introduced))
    return replace(report, intervals=found, rounds=matrix)


def with_gates(
    report: Report,
    rounds: Sequence[RoundHead],
    labels: Sequence[str],
    limits: Limits,
    from_the_start: bool = True,
    unmeasured: Collection[str] = (),
) -> Report:
    """The report with the gates that were asked for.

    Args:
        report: of the same rounds and labels.
        rounds: as for `evaluate`.
        labels: as for `evaluate`.
        limits: what the gates are.
        from_the_start: whether no round came before the first of `rounds`.
        unmeasured: classes that were given, of whose images none is left.
    """
    by_class = {
        entry.name: entry.accuracy
        for entry in report.per_class
        if entry.images or entry.name in unmeasured
    }
    fall = _fall(rounds, np.array(labels, object))
    if len(rounds) == 1:
        fall = 0.0 if from_the_start else None
    return replace(report, gates=gates(limits, report.figures.accuracy, by_class, fall))


def _fall(rounds: Sequence[RoundHead], true: Names) -> float | None:
    """Of the accuracy from the previous round to the last, on the classes both know."""
    if len(rounds) == 1:
        return None
    known = np.isin(true, rounds[-2].head.classes)
    if not known.any():
        return None
    before, now = (
        float((entry.head.predict(entry.vectors) == true)[known].mean()) for entry in rounds[-2:]
    )
    return before - now


def old_classes(outcomes: Outcomes, introduced: dict[str, int]) -> Mask:
    """(n,) whether an image is of a class from before the last introduction that the head knows."""
    known = {name: introduced[name] for name in outcomes.classes if name in introduced}
    last = max(known.values(), default=0)
    return outcomes.of_classes({name for name, number in known.items() if number < last})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _per_class(registry: Sequence[RegisteredClass], outcomes: Outcomes) -> tuple[ClassFigures, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    columns = [outcomes.classes.index(entry.name) for entry in registry]
    measured = precision_recall_fscore_support(
        outcomes.true, outcomes.predicted, labels=columns, zero_division=0.0
    )
    return tuple(
        ClassFigures(entry.name, entry.introduced_in_round, int(n), float(r), float(p), float(f))
        if n
        else ClassFigures(entry.name, entry.introduced_in_round, 0, None, None, None)
        for entry, p, r, f, n in zip(registry, *measured, strict=True)
    )


def _confusion(outcomes: Outcomes) -> tuple[Cell, ...]:
    pairs = zip(outcomes.true.tolist(), outcomes.predicted.tolist(), strict=True)
    names = outcomes.classes
    return tuple(
        Cell(names[true], names[predicted], count)
        for (true, predicted), count in sorted(Counter(pairs).items())
    )


def _reliability(outcomes: Outcomes) -> tuple[Bin, ...]:
    sums = reliability(outcomes.confidence, outcomes.correct)
    return tuple(
        Bin(place / ECE_BINS, (place + 1) / ECE_BINS, int(n), confidence / n, correct / n)
        for place, (n, confidence, correct) in enumerate(
            zip(*(s.tolist() for s in sums), strict=True)
        )
        if n
    )


def _mistakes(outcomes: Outcomes) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(~outcomes.correct)
    worst = wrong[np.argsort(-outcomes.confidence[wrong], kind="stable")][:MOST_MISTAKES]
    return tuple(
        Mistake(
            int(row),
            outcomes.classes[outcomes.true[row]],
            outcomes.classes[outcomes.predicted[row]],
            float(outcomes.confidence[row]),
            float(outcomes.given[row]),
        )
        for row in worst
    )


def _round_figures(
    entry: RoundHead, labels: Sequence[str], introduced: dict[str, int]
) -> RoundFigures:
    outcomes = Outcomes.of(entry.head, entry.vectors, labels)

    def accuracy(chosen: Mask) -> float | None:
        return float(outcomes.correct[chosen].mean()) if chosen.any() else None

    numbers = sorted({introduced[name] for name in entry.head.classes if name in introduced})
    by_introduction = {
        number: accuracy(
            outcomes.of_classes(
                [name for name in entry.head.classes if introduced.get(name) == number]
            )
        )
        for number in numbers
    }
    everything = np.ones(len(outcomes), np.bool_)
    return RoundFigures(entry.number, accuracy(everything), by_introduction)


def _all_figures(
    entry: RoundHead, labels: Sequence[str], introduced: dict[str, int]
) -> dict[str, Any]:
    outcomes = Outcomes.of(entry.head, entry.vectors, labels)
    counts = {"classes": len(entry.head.classes), "images": len(outcomes)}
    if not len(outcomes):
        return counts | dict.fromkeys(Figures.__dataclass_fields__)
    return counts | asdict(figures(outcomes, old_classes(outcomes, introduced)))


def _forgetting(matrix: Sequence[RoundFigures]) -> float | None:
    """Mean over earlier introductions k of (best accuracy on k before the last round − now)."""
    now = matrix[-1].accuracy_by_introduction
    drops = []
    for number, accuracy in now.items():
        before = [
            value
            for found in matrix[:-1]
            if (value := found.accuracy_by_introduction.get(number)) is not None
        ]
        if before and accuracy is not None:
            drops.append(max(before) - accuracy)
    return float(np.mean(drops)) if drops else None
