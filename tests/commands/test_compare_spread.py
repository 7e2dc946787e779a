"""compare: figures against a calculation by hand."""

from typing import Any

import numpy as np
import pytest

from tlcli import evaluation
from tlcli.commands.compare.methods import Method
from tlcli.commands.compare.spread import MethodFigures, SeenBy, Spread
from tlcli.commands.compare.trials import Result
from tlcli.evaluation import RoundHead
from tlcli.heads import LinearHead
from tlcli.manifest import RegisteredClass

BY = SeenBy("B", "last", 1, "", 8, None)

TRUE = "aabbccdd"
"""The classes of eight test images; a and b come in round 1, c in round 2, d in round 3."""


def result(*said: str) -> Result:
    """A fold in which the heads of three rounds gave these answers."""
    rounds = [
        RoundHead(number, _identity(classes), _scores(classes, answers))
        for number, (classes, answers) in enumerate(
            zip(("ab", "abc", "abcd"), said, strict=True), 1
        )
    ]
    registry = [
        RegisteredClass(name, number) for name, number in zip("abcd", (1, 1, 2, 3), strict=True)
    ]
    return Result(evaluation.evaluate("", registry, rounds, list(TRUE), ()), 2.0, 1000)


def _identity(classes: str) -> LinearHead:
    weights = np.eye(len(classes), dtype=np.float32)
    return LinearHead(tuple(classes), weights, np.zeros(len(classes), np.float32))


def _scores(classes: str, answers: str) -> np.ndarray:
    rows = [classes.index(name) if name in classes else 0 for name in answers]
    return np.eye(len(classes), dtype=np.float32)[rows]


GOOD = ("aabb----", "aabbcc--", "aabbccdd")
BAD = ("aabb----", "acbbcc--", "cdbdcddd")


def about(value: float) -> Any:
    """Equal to the numbers beside it."""
    return pytest.approx(value)


def test_the_metrics_of_one_fold() -> None:
    """a[1] = 4/4; a[2] = 3/4 on round 1 and 2/2; a[3] = 1/4, 1/2 and 2/2."""
    found = MethodFigures.of(BY, Method("merge", "lda"), [result(*BAD)], [result(*BAD)])
    accuracies = [after.accuracy.mean for after in found.rounds if after.accuracy]
    assert accuracies == pytest.approx([1, 5 / 6, 4 / 8])
    assert found.accuracy == Spread(about(4 / 8), 0.0)
    assert found.mean_class_accuracy == Spread(about((0 + 1 / 2 + 1 / 2 + 1) / 4), 0.0)
    average = found.average_incremental_accuracy
    assert average and average.mean == pytest.approx((1 + 5 / 6 + 4 / 8) / 3)
    assert found.forgetting == Spread(about(((1 - 1 / 4) + (1 - 1 / 2)) / 2), 0.0)
    assert found.excess_forgetting == Spread(0.0, 0.0)
    by_introduction = found.rounds[2].accuracy_by_introduction
    assert {number: spread.mean for number, spread in by_introduction.items() if spread} == {
        1: 1 / 4,
        2: 1 / 2,
        3: 1,
    }


def test_mean_and_deviation_over_folds_and_excess_over_joint() -> None:
    own, joint = [result(*BAD), result(*GOOD)], [result(*GOOD), result(*GOOD)]
    found = MethodFigures.of(BY, Method("naive", "softmax"), own, joint)
    assert found.forgetting == Spread(about(0.3125), about(0.625 / np.sqrt(2)))
    assert found.excess_forgetting == found.forgetting
    own.reverse()
    found = MethodFigures.of(BY, Method("naive", "softmax"), own, [result(*BAD)] * 2)
    assert found.excess_forgetting == Spread(about(-0.3125), about(0.625 / np.sqrt(2)))
    assert found.seconds == 2.0 and found.bytes_kept == 1000


def test_folds_without_a_figure_do_not_count() -> None:
    assert Spread.of([None, 0.5, None, 1.0]) == Spread(0.75, about(0.5 / np.sqrt(2)))
    assert Spread.of([0.5, None]) == Spread(0.5, 0.0)
    assert Spread.of([None, None]) is None
