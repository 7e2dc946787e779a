"""What heads are solved by: stopped by a signal, announced, the same in blocks and when large."""

import logging
import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

import numpy as np
import pytest
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC

from tests.support.arrays import Floats
from tests.support.blobs import blobs, examples_of
from tlcli import evaluation
from tlcli.heads import Evidence, LinearHead, descent
from tlcli.heads.gradient import softmax
from tlcli.heads.svm import USUAL, svm

Solve = Callable[[Floats, Sequence[str]], LinearHead]

SOLVERS: dict[str, Solve] = {
    "softmax": softmax,
    "svm": lambda features, labels: svm(examples_of(features, labels)),
}


class Interrupted(BaseException):
    """What the handler of this test raises."""


@pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)
def test_a_signal_ends_it_at_once(solve: Solve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the end of the solution: nothing is computed after the step in which it came."""
    asked = []

    def handler(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted

    def progress(phase: str, done: int, total: int) -> None:
        asked.append(done)
        if done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(Interrupted), descent.watched(descent.Watch(progress)):
            solve(*blobs())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked == [1, 2, 3]


@pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)
def test_a_long_solution_is_announced_once(
    solve: Solve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with descent.watched(descent.Watch()):
        solve(*blobs())
        assert not caplog.messages
        monkeypatch.setattr(descent, "_MOST_SECONDS", 0)
        solve(*blobs())
        solve(*blobs())
    (message,) = [entry for entry in caplog.records if entry.levelno == logging.WARNING]
    assert "3 classes takes about" in message.getMessage()
    assert "--head lda" in message.getMessage()


@pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)
def test_blocks_of_images_give_the_same_head(solve: Solve, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = blobs()
    whole = solve(features, labels)
    monkeypatch.setattr(descent, "_BLOCK", 7 * 8 * 3)
    assert len(list(descent.Size(120, 8, 3).blocks())) == 18
    np.testing.assert_allclose(
        solve(features, labels).logits(features), whole.logits(features), atol=1e-3
    )


def test_softmax_of_a_large_problem_is_the_same_in_single_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, labels = blobs()
    exact = softmax(features, labels).probabilities(features)
    monkeypatch.setattr(descent, "LARGE", 1)
    found = softmax(features, labels).probabilities(features)
    np.testing.assert_allclose(found, exact, atol=1e-3)


def test_svm_of_a_large_problem_takes_the_usual_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = blobs(90, 6, "abc", 0.5)
    monkeypatch.setattr(descent, "LARGE", 1)
    head = svm(examples_of(features, labels))
    directions = Normalizer().fit_transform(features.astype(np.float64))
    machine = LinearSVC(C=USUAL, fit_intercept=False, random_state=0, max_iter=100_000)
    expected = machine.fit(directions, labels).decision_function(directions)
    np.testing.assert_allclose(head.logits(directions.astype(np.float32)), expected, atol=5e-3)


def test_more_images_than_the_span_is_looked_for_give_the_same_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tlcli.heads import gradient
    from tlcli.heads import svm as machine

    features, labels = blobs(30, 40)
    before = {name: solve(features, labels).logits(features) for name, solve in SOLVERS.items()}
    for module in (gradient, machine):
        monkeypatch.setattr(module, "_MOST_ROTATED", 5)
    for name, solve in SOLVERS.items():
        np.testing.assert_allclose(
            solve(features, labels).logits(features), before[name], atol=2e-2, err_msg=name
        )


def test_a_head_that_holdout_cannot_test_is_not_solved_for_it() -> None:
    """Only folds reach every class: the solution for the images that a hash chooses is left out."""
    features, labels = blobs(60, 5, [f"class {number:02d}" for number in range(30)])
    solved = []

    def fit(evidence: Evidence) -> LinearHead:
        solved.append(len(evidence.new))
        return SOLVERS["softmax"](evidence.new.vectors[:], evidence.new.labels)

    examples = examples_of(features, labels)
    evidence = Evidence(None, examples, examples.where(np.zeros(60, bool)))
    answers = evaluation.cheapest(fit, evidence, tuple(sorted(set(labels))), False)
    assert answers.method == "cross-validation"
    assert solved == [30, 30]  # of two images a class, in two folds
    assert len(answers.true) == 60
