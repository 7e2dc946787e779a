"""Temperatures against brute force and by hand, and the expected calibration error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from tests.support.arrays import Doubles, Mask
from tlcli.heads import calibration, expected_calibration_error, temperature


def drawn(
    count: int = 400, classes: int = 5, truth: float = 1.0, seed: int = 0
) -> tuple[Doubles, NDArray[np.int64]]:
    """Logits (n, C), and columns drawn from softmax(logits/truth)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, classes))
    chances = softmax(logits / truth, axis=1).cumsum(axis=1)
    columns = (rng.random((count, 1)) > chances).sum(axis=1).clip(max=classes - 1)
    return logits, columns


def smoothed_cross_entropy(logits: Doubles, columns: NDArray[np.int64], value: float) -> float:
    """By the definition, one image after the other."""
    share, total = 1 / (len(logits) + 2), 0.0
    for row, column in zip(logits, columns, strict=True):
        targets = np.zeros(len(row))
        others = [i for i in range(len(row)) if i != column]
        targets[max(others, key=lambda i: row[i])] = share
        targets[column] = 1 - share
        total -= targets @ log_softmax(row / value)
    return total


@pytest.mark.parametrize("count", [1, 3, 30])
@pytest.mark.parametrize("classes", [2, 3, 20])
def test_the_temperature_is_where_the_smoothed_cross_entropy_is_smallest(
    count: int, classes: int
) -> None:
    logits, columns = drawn(count, classes, truth=2.0)
    found = temperature(logits, columns)
    here = smoothed_cross_entropy(logits, columns, found)
    tried = found * np.exp(np.linspace(-3, 3, 40))
    assert all(here <= smoothed_cross_entropy(logits, columns, T) + 1e-6 for T in tried)


@pytest.mark.parametrize("truth", [0.4, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_with_is_found_again(truth: float) -> None:
    logits, columns = drawn(20_000, truth=truth)
    assert temperature(logits.astype(np.float32), columns) == pytest.approx(truth, rel=0.04)


@settings(max_examples=20, deadline=None)
@given(st.floats(-12, 12), st.floats(-1e3, 1e3))
def test_it_follows_the_scale_of_the_logits_and_ignores_a_shift_of_an_image(
    exponent: float, shift: float
) -> None:
    """Those of ridge are about 1, those of lda in the hundreds."""
    logits, columns = drawn(50)
    scale = float(np.exp(exponent))
    moved = logits * scale + scale * shift * np.arange(50)[:, None]
    expected = scale * temperature(logits, columns)
    assert temperature(moved, columns) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("count", [1, 10, 1000])
@pytest.mark.parametrize("classes", [2, 5, 200])
def test_no_mistake_in_n_images_promises_at_most_one_in_the_next(count: int, classes: int) -> None:
    """All margins are 7: the smallest loss gives the truth (n+1)/(n+2), as Platt says."""
    columns = np.arange(count) % classes
    logits = np.full((count, classes), -3.0, np.float32)
    logits[np.arange(count), columns] = 4.0
    found = temperature(logits, columns)
    assert found == pytest.approx(7 / np.log((count + 1) * (classes - 1)), rel=1e-3)
    sure = softmax(logits.astype(float) / found, axis=1)[np.arange(count), columns]
    np.testing.assert_allclose(sure, (count + 1) / (count + 2), atol=1e-3)


def test_logits_that_are_always_wrong_end_in_equal_probabilities() -> None:
    logits = np.eye(3)[[0, 1, 2] * 5]
    found = temperature(logits, np.array([1, 2, 0] * 5))
    assert 1e3 < found < np.inf


@pytest.mark.parametrize(
    "logits",
    [np.zeros((0, 4)), np.zeros((0, 0)), np.ones((5, 1)), np.full((5, 3), 2.5), np.zeros((5, 3))],
    ids=["no image", "nothing", "one class", "equal", "zero"],
)
def test_where_there_is_nothing_to_fit_it_is_one(logits: Doubles) -> None:
    columns = np.zeros(len(logits), np.intp)
    assert temperature(logits.astype(np.float32), columns) == 1.0


def test_of_many_images_some_are_taken_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, columns = drawn(1000, truth=2.0)
    columns[500:] = drawn(1000, truth=0.5)[1][500:]
    everything = temperature(logits, columns)
    monkeypatch.setattr(calibration, "MOST_ROWS", 500)
    fewer = temperature(logits, columns)
    assert fewer == temperature(logits, columns) == pytest.approx(everything, rel=0.15)
    assert fewer != everything
    monkeypatch.setattr(calibration, "MOST_ROWS", 1000)
    assert temperature(logits, columns) == everything


def test_the_logits_are_left_as_they_were() -> None:
    logits, columns = drawn(20)
    before = logits.copy()
    temperature(logits, columns)
    np.testing.assert_array_equal(logits, before)


def by_its_definition(confidence: Doubles, correct: Mask) -> float:
    total = 0.0
    for number in range(15):
        inside = [i for i, c in enumerate(confidence) if min(int(c * 15), 14) == number]
        if inside:
            gap = np.mean([correct[i] for i in inside]) - np.mean([confidence[i] for i in inside])
            total += abs(gap) * len(inside) / len(confidence)
    return total


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_the_calibration_error_is_that_of_its_definition(answers: list[tuple[float, bool]]) -> None:
    confidence = np.array([answer[0] for answer in answers])
    correct = np.array([answer[1] for answer in answers])
    found = expected_calibration_error(confidence, correct)
    assert found == pytest.approx(by_its_definition(confidence, correct), abs=1e-12)


def test_the_calibration_error_by_hand() -> None:
    """Confidence 0.7 with half of 4 right, and 0.95 with the other 4 all right."""
    confidence = np.array([0.7] * 4 + [0.95] * 4)
    correct = np.array([True, False] * 2 + [True] * 4)
    found = expected_calibration_error(confidence, correct)
    assert found == pytest.approx(0.5 * 0.2 + 0.5 * 0.05)


def test_right_and_wrong_make_up_for_each_other_within_a_bin_alone() -> None:
    confidence = np.array([0.5, 0.5, 1.0, 1.0])
    assert expected_calibration_error(confidence, np.array([1, 0, 1, 1], bool)) == 0
    assert expected_calibration_error(confidence, np.array([1, 1, 0, 1], bool)) == 0.5
    last = np.array([0.94, 1.0])
    found = expected_calibration_error(last, np.array([True, False]))
    assert found == pytest.approx((1 - 0.06) / 2)


def test_no_image_has_no_calibration_error() -> None:
    assert expected_calibration_error(np.zeros(0), np.zeros(0, bool)) == 0
