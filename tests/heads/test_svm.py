"""The support vector machine against scikit-learn's, one linear layer on raw features."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC

from tests.support.arrays import Doubles
from tests.support.blobs import assert_same_bits, blobs, examples_of
from tlcli import images
from tlcli.features import Examples, Vectors
from tlcli.heads.svm import PENALTIES, svm


def oracle_of(
    examples: Examples, class_weights: str | None = None, scoring: str = "accuracy"
) -> Any:
    """scikit-learn's own pipeline and search over the same folds, fitted."""
    machine = LinearSVC(
        fit_intercept=False, random_state=0, max_iter=100_000, class_weight=class_weights
    )
    folds = PredefinedSplit(images.folds(examples.hashes, examples.labels, 3))
    search = GridSearchCV(
        make_pipeline(Normalizer(), machine),
        {"linearsvc__C": PENALTIES},
        cv=folds,
        scoring=scoring,
    )
    return search.fit(examples.vectors[:].astype(np.float64), examples.labels)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("classes", ["abc", "aaaaabbcde"], ids=["equal", "unequal"])
@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_it_is_the_machine_of_scikit_learn_on_normalised_features(
    spread: float, classes: str, balanced: bool
) -> None:
    features, labels = blobs(90, 6, classes, spread)
    examples = examples_of(features, labels)
    scoring = "balanced_accuracy" if balanced else "accuracy"
    oracle = oracle_of(examples, "balanced" if balanced else None, scoring)
    head = svm(examples, balanced)
    assert head.classes == tuple(oracle.classes_)
    directions = Normalizer().fit_transform(features.astype(np.float64))
    expected = oracle.best_estimator_["linearsvc"].decision_function(directions)
    np.testing.assert_allclose(head.logits(directions.astype(np.float32)), expected, atol=5e-3)
    assert head.predict(features).tolist() == oracle.predict(features).tolist()


def test_the_search_has_something_to_choose() -> None:
    """Not one penalty is the best for all of the problems above."""
    found = {
        oracle_of(examples_of(*blobs(90, 6, classes, spread))).best_params_["linearsvc__C"]
        for classes, spread in (("abc", 0.5), ("abc", 2.0), ("aaaaabbcde", 0.5))
    }
    assert len(found) > 1


def test_two_classes_have_two_opposite_columns() -> None:
    features, labels = blobs(40, 5, "ab")
    head = svm(examples_of(features, labels))
    assert head.classes == ("a", "b")
    np.testing.assert_array_equal(head.weights[:, 0], -head.weights[:, 1])
    expected = oracle_of(examples_of(features, labels)).predict(features)
    assert head.predict(features).tolist() == expected.tolist()


def test_one_class_is_sure() -> None:
    features, _ = blobs(6, 3)
    assert svm(examples_of(features, "a" * 6)).probabilities(features).tolist() == [[1.0]] * 6


def test_the_size_of_features_does_not_matter() -> None:
    features, labels = blobs(60, 5)
    examples = examples_of(features, labels)
    larger = replace(examples, vectors=Vectors.of(8 * features))
    assert_same_bits(svm(examples), svm(larger))


def test_balanced_classes_are_not_drowned() -> None:
    features, labels = blobs(300, 4, "a" * 19 + "b", spread=2.0)
    rare = np.array(labels) == "b"
    found = [
        (svm(examples_of(features, labels), balanced).predict(features)[rare] == "b").mean()
        for balanced in (False, True)
    ]
    assert found[0] < found[1]


NASTY = {
    "no feature differs": (np.ones((60, 4)), list("abc") * 20),
    "zero vectors": (np.zeros((9, 4)), list("abc") * 3),
    "noise": (np.random.default_rng(0).normal(0, 1, (300, 3)), list("abc") * 100),
    "one of many": (np.random.default_rng(0).normal(0, 1, (300, 3)), ["a"] * 298 + ["b"] * 2),
    "two images a class": (
        np.random.default_rng(0).normal(0, 1, (60, 9)),
        list(map(chr, range(200, 230))) * 2,
    ),
    "one image a class": (
        np.random.default_rng(0).normal(0, 1, (30, 9)),
        list(map(chr, range(200, 230))),
    ),
    "copies": (np.repeat(np.eye(2), 4, axis=0), ["a"] * 4 + ["b"] * 4),
    "the same in two classes": (np.repeat(np.eye(2), 4, axis=0), list("abab") * 2),
}


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("features", "labels"), NASTY.values(), ids=NASTY)
def test_it_converges_without_a_warning(
    features: Doubles, labels: list[str], balanced: bool
) -> None:
    """Warnings are errors here."""
    head = svm(examples_of(features.astype(np.float32), labels), balanced)
    assert head.weights.shape == (features.shape[1], len(set(labels)))
    assert np.isfinite(head.weights).all()
    assert not head.bias.any()


def test_the_features_are_left_as_they_were() -> None:
    features, labels = blobs(30, 4)
    before = features.copy()
    svm(examples_of(features, labels))
    np.testing.assert_array_equal(features, before)
