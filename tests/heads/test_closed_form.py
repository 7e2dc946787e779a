"""Heads from moments against scikit-learn, bit for bit under any cut of rounds."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.covariance import oas
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestCentroid

from tests.support.arrays import Doubles, Floats, Mask
from tests.support.blobs import BITS, assert_same_bits, blobs, moments_of
from tlcli import gaussian, moments
from tlcli.errors import UsageError
from tlcli.heads import LinearHead, closed_form

Solve = Callable[[moments.Moments], LinearHead]

SOLVERS: dict[str, Solve] = {
    "lda": closed_form.lda,
    "lda-oas": lambda found: closed_form.lda(found, "oas", "frequency"),
    "ridge": closed_form.ridge,
    "ncm": closed_form.ncm,
    "ncm-cosine": closed_form.ncm_cosine,
}
every_solver = pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)


def centred_by_class(features: Floats, labels: Sequence[str]) -> tuple[Doubles, NDArray[np.intp]]:
    """Features (n, D) less the mean of their class, and the class index (n,)."""
    inputs = features.astype(np.float64)
    names, index = np.unique(labels, return_inverse=True)
    means = np.array([inputs[index == i].mean(axis=0) for i in range(len(names))])
    return inputs - means[index], index


class Shrunken:
    """The covariance of one class, shrunk by the amount for all n images.

    scikit-learn averages the classes' covariances by their priors. Shrinking is linear, so with
    the classes' shares as priors that average is the shrunken covariance of `lda`.
    """

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def fit(self, features: Doubles) -> "Shrunken":
        covariance = np.cov(features.T, bias=True)
        target = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        self.covariance_ = (1 - self.amount) * covariance + self.amount * target
        return self


def amount_of(shrinkage: str, features: Floats, labels: list[str]) -> float:
    count, width = features.shape
    if shrinkage == "auto":
        return float(width / (width + count))
    if shrinkage == "oas":
        return float(oas(centred_by_class(features, labels)[0], assume_centered=True)[1])
    return float(shrinkage)


@pytest.mark.parametrize("priors", ["uniform", "frequency"])
@pytest.mark.parametrize("classes", ["abc", "aaaaabbcde"], ids=["equal", "unequal"])
@pytest.mark.parametrize(
    ("count", "width", "shrinkage"),
    [
        *itertools.product([120, 30], [8], ["auto", "oas", "0", "0.3", "1"]),
        *itertools.product([20], [40], ["auto", "oas", "0.3", "1"]),
        *itertools.product([600], [3], ["auto", "oas", "0", "1e-6"]),
    ],
)
def test_lda_gives_the_decision_values_of_scikit_learn(
    count: int, width: int, classes: str, priors: str, shrinkage: str
) -> None:
    features, labels = blobs(count, width, classes)
    inputs = features.astype(np.float64)
    estimator = Shrunken(amount_of(shrinkage, features, labels))
    oracle = LinearDiscriminantAnalysis("lsqr", covariance_estimator=estimator)
    oracle.fit(inputs, labels)
    expected = oracle.decision_function(inputs)
    if priors == "uniform":
        expected = expected - np.log(oracle.priors_) - np.log(len(oracle.classes_))
    head = closed_form.lda(moments_of(features, labels), shrinkage, priors)
    assert head.classes == tuple(oracle.classes_)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(head.logits(features), expected, atol=2e-6 * scale)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30), st.integers(2, 40), st.integers(0, 5))
def test_oas_shrinks_as_much_as_scikit_learn(width: int, count: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(0, 1, (count, width))
    features *= np.logspace(0, -2, width)
    _, amount = oas(features, assume_centered=True)
    assert 0 <= amount <= 1
    found = gaussian.oas(features.T @ features / count, count, width)
    assert found == pytest.approx(amount, rel=1e-9)


@pytest.mark.parametrize("value", ["auto", "oas", "0", "1", "0.5", "1e-3"])
def test_a_shrinkage_from_0_to_1_is_accepted(value: str) -> None:
    gaussian.require_shrinkage(value)


@pytest.mark.parametrize("value", ["", "nan", "inf", "-0.1", "1.01", "half", "AUTO"])
def test_any_other_shrinkage_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=f"shrinkage={value!r}"):
        gaussian.require_shrinkage(value)


SINGULAR = {
    "few images": lambda features: np.hstack(
        [features, np.sin(1e3 * np.outer(features[:, 0], range(60)))]
    ),
    "a feature that is always 0": lambda features: np.hstack([features, 0 * features[:, :1]]),
    "a feature that is always 3": lambda features: np.hstack([features, 0 * features[:, :1] + 3]),
    "a feature twice": lambda features: np.hstack([features, features[:, :1]]),
}


@pytest.mark.parametrize("widened", SINGULAR.values(), ids=SINGULAR)
def test_a_singular_covariance_is_refused_without_shrinkage_and_fine_with_the_default(
    widened: Callable[..., Any],
) -> None:
    features, labels = blobs(60, 5)
    found = moments_of(widened(features).astype(np.float32), labels)
    with pytest.raises(UsageError, match=r"shrinkage=0 for 60 images.*Leave --shrinkage out"):
        closed_form.lda(found, "0")
    for shrinkage in ("auto", "oas", "0.01"):
        head = closed_form.lda(found, shrinkage)
        assert (head.predict(widened(features)) == np.array(labels)).mean() > 0.8


@pytest.mark.parametrize("value", [5.1, 9.9, 13.7])
def test_rounding_is_not_taken_for_variation(value: float) -> None:
    """The variance of these comes out as 1e-15 or so, and above 0."""
    features, labels = blobs(61, 5, "aaabbc", spread=0.5)
    constant = np.hstack([features, np.full((61, 1), value)]).astype(np.float32)
    found = moments_of(constant, labels)
    with pytest.raises(UsageError, match="shrinkage=0"):
        closed_form.lda(found, "0")
    assert len(closed_form.RidgeProblem.of(found).eigenvalues) == 5


def test_features_that_follow_from_others_add_nothing_to_the_rank() -> None:
    features, labels = blobs(90, 5, spread=0.3)
    dependent = np.hstack([features, features[:, ::-1], features[:, :4] + features[:, 1:]])
    problem = closed_form.RidgeProblem.of(moments_of(dependent, labels))
    eigenvalues, targets = problem.spectrum
    assert eigenvalues.shape == (5,)
    assert targets.shape == (5, 3)


@pytest.mark.parametrize("step", [1, 2, 20, 300])
def test_the_default_never_fails_however_little_features_vary(step: int) -> None:
    """Around 15, by `step` units of the grid; with one unit there is nothing to tell apart."""
    rng = np.random.default_rng(0)
    features = (15 + rng.integers(0, step + 1, (900, 6)) / 2**BITS).astype(np.float32)
    features[::3] += np.float32(step / 2**BITS)
    labels = ["a", "b", "b"] * 300
    head = closed_form.lda(moments_of(features, labels))
    assert np.isfinite(head.logits(features)).all()


def test_lda_weighs_unequal_classes_alike() -> None:
    """Uniform priors: each bias holds log(1/C) whatever the counts are."""
    features, labels = blobs(300, 4, "ab")
    kept = [i for i, label in enumerate(labels) if label == "a" or i < 40]
    head = closed_form.lda(moments_of(features[kept], [labels[i] for i in kept]))
    means = np.array(
        [features[[i for i in kept if labels[i] == name]].mean(axis=0) for name in "ab"]
    )
    expected = -0.5 * (means * head.weights.T).sum(axis=1) - np.log(2)
    np.testing.assert_allclose(head.bias, expected, rtol=1e-4)


def test_one_image_per_class_predicts_the_nearest_class_mean() -> None:
    features, labels = blobs(7, 5, "abcdefg")
    head = closed_form.lda(moments_of(features, labels))
    queries, _ = blobs(200, 5, seed=1)
    distances = ((queries[:, None] - features) ** 2).sum(axis=2)
    assert head.predict(queries).tolist() == [labels[i] for i in distances.argmin(axis=1)]
    np.testing.assert_allclose(head.weights, features.T, rtol=1e-5)


def test_copies_of_one_image_do_not_count_as_variation() -> None:
    features, labels = blobs(6, 5, "abcdef")
    head = closed_form.lda(
        moments_of(np.repeat(features, 3, axis=0), np.repeat(labels, 3).tolist())
    )
    np.testing.assert_allclose(head.weights, features.T, rtol=1e-5)


@every_solver
def test_constant_features_are_harmless(solve: Solve) -> None:
    features, labels = blobs(60, 4)
    constant = np.hstack([features, np.zeros((60, 1)), np.full((60, 1), 3.0)]).astype(np.float32)
    head = solve(moments_of(constant, labels))
    assert np.isfinite(head.weights).all()
    assert (head.predict(constant) == np.array(labels)).mean() > 0.8


@every_solver
def test_more_features_than_images_still_give_a_head(solve: Solve) -> None:
    features, labels = blobs(9, 64, spread=0.2)
    assert solve(moments_of(features, labels)).predict(features).tolist() == labels


@every_solver
@settings(max_examples=25, deadline=None)
@given(st.permutations(range(36)), st.lists(st.integers(0, 36), max_size=4))
def test_a_head_is_the_same_bits_however_rounds_were_cut(
    solve: Solve, order: list[int], cuts: list[int]
) -> None:
    features, labels = blobs(36, 5)
    edges = [0, *sorted(cuts), 36]
    rounds = [
        moments_of(features[list(order[a:b])], [labels[i] for i in order[a:b]])
        for a, b in itertools.pairwise(edges)
    ]
    joint = solve(moments_of(features, labels))
    assert_same_bits(solve(reduce(moments.add, rounds)), joint)


@every_solver
def test_the_unit_of_features_does_not_matter(solve: Solve) -> None:
    """The integers of features four times smaller, with two bits more."""
    features, labels = blobs(60, 5, "aaabbc", spread=2.0)
    found = moments_of(features, labels)
    head, smaller = solve(found), solve(replace(found, bits=BITS + 2))
    expected = softmax(standardised(head.logits(features)), axis=1)
    received = softmax(standardised(smaller.logits(features / np.float32(4))), axis=1)
    np.testing.assert_allclose(received, expected, atol=1e-5)


def standardised(logits: Floats) -> Doubles:
    """Those of ncm and ncm-cosine grow with the features, the others do not."""
    found: Doubles = logits.astype(np.float64) / logits.std()
    return found


def one_hot(labels: list[str]) -> Doubles:
    found: Mask = np.array(labels)[:, None] == np.unique(labels)
    return found.astype(np.float64)


def direct_path(features: Floats, labels: list[str], penalties: Doubles) -> Doubles:
    """Generalised cross-validation by its definition, with the matrix H of the fit."""
    inputs = features.astype(np.float64)
    targets, count = one_hot(labels), len(labels)
    left, singular, _ = np.linalg.svd(inputs - inputs.mean(axis=0), full_matrices=False)
    errors = []
    for penalty in penalties:
        fit = (left * (singular**2 / (singular**2 + penalty))) @ left.T + 1 / count
        residual = ((targets - fit @ targets) ** 2).sum()
        errors.append(count * residual / (count - np.trace(fit)) ** 2)
    return np.array(errors)


SHAPES = {
    "tall": blobs(200, 8, spread=2.0),
    "unequal": blobs(90, 8, "aaaaabbcde", spread=2.0),
    "square": blobs(41, 40, spread=0.5),
    "wide": blobs(30, 70, spread=0.7),
    "one column": blobs(50, 1, spread=2.0),
}


@pytest.mark.parametrize(("features", "labels"), SHAPES.values(), ids=SHAPES)
def test_the_ridge_path_is_generalised_cross_validation(
    features: Floats, labels: list[str]
) -> None:
    problem = closed_form.RidgeProblem.of(moments_of(features, labels))
    penalties, errors = closed_form.ridge_path(problem)
    direct = direct_path(features, labels, penalties)
    # The definition itself cancels where nearly nothing is left of the targets.
    exact = penalties > 1e-4 * problem.mean_eigenvalue
    np.testing.assert_allclose(errors[exact], direct[exact], rtol=1e-9)
    np.testing.assert_allclose(errors, direct, rtol=1e-4)
    chosen = [closed_form.chosen_penalty(penalties, path) for path in (errors, direct)]
    assert chosen[0] == chosen[1]
    assert penalties[-1] / penalties[0] == pytest.approx(1e9)


@pytest.mark.parametrize(("features", "labels"), SHAPES.values(), ids=SHAPES)
def test_ridge_is_that_of_scikit_learn_with_the_best_penalty(
    features: Floats, labels: list[str]
) -> None:
    found = moments_of(features, labels)
    penalties, errors = closed_form.ridge_path(closed_form.RidgeProblem.of(found))
    inputs = features.astype(np.float64)
    penalty = closed_form.chosen_penalty(penalties, errors)
    oracle = Ridge(alpha=penalty, solver="svd").fit(inputs, one_hot(labels))
    head = closed_form.ridge(found)
    assert head.classes == tuple(np.unique(labels))
    np.testing.assert_allclose(head.weights, oracle.coef_.T, atol=1e-6)
    np.testing.assert_allclose(head.bias, oracle.intercept_, atol=1e-6)


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        ([3, 1, 2, 4], 1),
        ([0.1, 0.2, 0.5, 0.3, 0.4], 3),
        ([1, 2, 3], 0),
        ([3, 2, 1], 2),
        ([0, 0, 0], 0),
    ],
)
def test_a_fall_towards_no_penalty_at_all_is_not_taken_for_a_good_fit(
    errors: list[float], chosen: int
) -> None:
    penalties = 10.0 ** np.arange(len(errors), dtype=np.float64)
    assert closed_form.chosen_penalty(penalties, np.array(errors, float)) == 10.0**chosen


def test_fewer_images_than_features_do_not_ask_for_no_penalty() -> None:
    """What noise can fit exactly it must not be allowed to: the intercept is counted."""
    rng = np.random.default_rng(0)
    features, labels = blobs(30, 70, spread=0.7)
    problem = closed_form.RidgeProblem.of(moments_of(features, rng.permutation(labels).tolist()))
    _, errors = closed_form.ridge_path(problem)
    assert errors.argmin() > 60
    assert problem.unexplained == 0


DEGENERATE: dict[str, tuple[NDArray[Any], Sequence[str]]] = {
    "one image": (np.array([[1, 2, 0]]), ["a"]),
    "one class": (blobs(9, 3)[0], ["a"] * 9),
    "one feature": blobs(9, 1),
    "one image a class": blobs(3, 3),
    "one vector": (np.full((6, 3), 2.5), list("aabbcc")),
    "no vector but zero": (np.zeros((6, 3)), list("aabbcc")),
    "copies": (np.repeat(blobs(3, 4)[0], 3, axis=0), list(np.repeat(list("abc"), 3))),
    "two images": blobs(2, 5, "ab"),
}


@every_solver
@pytest.mark.parametrize(("features", "labels"), DEGENERATE.values(), ids=DEGENERATE)
def test_a_degenerate_set_gives_a_finite_head(
    solve: Solve, features: NDArray[Any], labels: Sequence[str]
) -> None:
    features = features.astype(np.float32)
    head = solve(moments_of(features, labels))
    assert head.weights.shape == (features.shape[1], len(set(labels)))
    np.testing.assert_allclose(head.probabilities(features).sum(axis=1), 1)


@pytest.mark.parametrize("name", ["one vector", "one image", "no vector but zero"])
def test_ridge_without_variation_answers_with_the_shares(name: str) -> None:
    features, labels = DEGENERATE[name]
    head = closed_form.ridge(moments_of(features.astype(np.float32), labels))
    assert not head.weights.any()
    np.testing.assert_allclose(head.bias, 1 / len(set(labels)))


def test_ridge_gives_what_never_varies_no_weight() -> None:
    features, labels = blobs(60, 4)
    constant = np.hstack([features, np.full((60, 1), 3.0)]).astype(np.float32)
    head = closed_form.ridge(moments_of(constant, labels))
    np.testing.assert_allclose(head.weights[-1], 0, atol=1e-12)


@pytest.mark.parametrize("classes", ["ab", "abc", "aaaaabbcde"])
def test_ncm_predicts_the_nearest_centroid_of_scikit_learn(classes: str) -> None:
    features, labels = blobs(80, 6, classes, spread=1.5)
    head = closed_form.ncm(moments_of(features, labels))
    oracle = NearestCentroid().fit(features, labels)
    queries, _ = blobs(300, 6, spread=5.0, seed=1)
    assert head.predict(queries).tolist() == oracle.predict(queries).tolist()
    np.testing.assert_allclose(head.weights.T, oracle.centroids_, rtol=1e-6)


def test_ncm_cosine_predicts_the_class_mean_of_the_nearest_direction() -> None:
    features, labels = blobs(80, 6, "aaabcd", spread=1.5)
    head = closed_form.ncm_cosine(moments_of(features, labels))
    centroids = NearestCentroid().fit(features, labels).centroids_
    queries, _ = blobs(300, 6, spread=5.0, seed=1)
    nearest = cosine_similarity(queries, centroids).argmax(axis=1)
    assert head.predict(queries).tolist() == [head.classes[i] for i in nearest]
    norms = np.linalg.norm(queries, axis=1, keepdims=True)
    cosines = cosine_similarity(queries, centroids)
    np.testing.assert_allclose(head.logits(queries) / norms, cosines, atol=1e-5)


def test_a_class_whose_mean_is_zero_has_no_direction() -> None:
    head = closed_form.ncm_cosine(moments_of(np.diag([1, 0]).astype(np.float32), "ab"))
    assert head.weights.tolist() == [[1, 0], [0, 0]]
