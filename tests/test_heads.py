"""Heads against scikit-learn, bit for bit under any cut of rounds, and on disk."""

import itertools
from functools import reduce

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tlcli import files, heads, moments
from tlcli.errors import RunError, UsageError
from tlcli.heads import LinearHead

BITS = 12


def blobs(count=120, width=8, classes="abc", spread=1.0, seed=0):
    """Features (n, D) on the grid of the moments, one Gaussian a class; and the labels."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1.5, (len(classes), width))
    index = np.arange(count) % len(classes)
    noise = rng.normal(0, spread, (count, width)) @ rng.normal(0, 1, (width, width)) / 2
    features = np.rint((centres[index] + noise) * 2**BITS) / 2**BITS
    return features.astype(np.float32), [classes[i] for i in index]


def moments_of(features, labels):
    return moments.of(features, labels, "backbone-a", BITS)


def random_head(width=6, columns=5, seed=0):
    rng = np.random.default_rng(seed)
    return LinearHead(
        tuple(f"class {i}" for i in range(columns)),
        rng.normal(0, 1, (width, columns)).astype(np.float32),
        rng.normal(0, 1, columns).astype(np.float32),
    )


def assert_same_bits(a, b):
    assert a.classes == b.classes
    assert a.weights.dtype == b.weights.dtype == np.float32
    assert a.weights.tobytes() == b.weights.tobytes()
    assert a.bias.tobytes() == b.bias.tobytes()


class Shrunken:
    """The covariance of one class, shrunk by the amount for all n images.

    scikit-learn averages the classes' covariances by their priors. Shrinking is linear, so with
    the classes' shares as priors that average is the shrunken covariance of `lda`.
    """

    def __init__(self, count, width):
        self.amount = width / (width + count)

    def fit(self, features):
        covariance = np.cov(features.T, bias=True)
        target = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        self.covariance_ = (1 - self.amount) * covariance + self.amount * target
        return self


@pytest.mark.parametrize("classes", ["abc", "aaaaabbcde"], ids=["equal", "unequal"])
@pytest.mark.parametrize(("count", "width"), [(120, 8), (30, 8), (20, 40), (600, 3)])
def test_lda_gives_the_decision_values_of_scikit_learn(count, width, classes):
    features, labels = blobs(count, width, classes)
    inputs = features.astype(np.float64)
    oracle = LinearDiscriminantAnalysis("lsqr", covariance_estimator=Shrunken(count, width))
    oracle.fit(inputs, labels)
    uniform = -np.log(oracle.priors_) - np.log(len(oracle.classes_))
    head = heads.lda(moments_of(features, labels))
    assert head.classes == tuple(oracle.classes_)
    expected = oracle.decision_function(inputs) + uniform
    np.testing.assert_allclose(head.logits(features), expected, rtol=1e-4, atol=5e-4)


def test_lda_weighs_unequal_classes_alike():
    """Uniform priors: each bias holds log(1/C) whatever the counts are."""
    features, labels = blobs(300, 4, "ab")
    kept = [i for i, label in enumerate(labels) if label == "a" or i < 40]
    head = heads.lda(moments_of(features[kept], [labels[i] for i in kept]))
    means = np.array(
        [features[[i for i in kept if labels[i] == name]].mean(axis=0) for name in "ab"]
    )
    expected = -0.5 * (means * head.weights.T).sum(axis=1) - np.log(2)
    np.testing.assert_allclose(head.bias, expected, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(36)), st.lists(st.integers(0, 36), max_size=4))
def test_lda_is_the_same_bits_however_rounds_were_cut(order, cuts):
    features, labels = blobs(36, 5)
    edges = [0, *sorted(cuts), 36]
    rounds = [
        moments_of(features[list(order[a:b])], [labels[i] for i in order[a:b]])
        for a, b in itertools.pairwise(edges)
    ]
    joint = heads.lda(moments_of(features, labels))
    assert_same_bits(heads.lda(reduce(moments.add, rounds)), joint)


def test_one_image_per_class_predicts_the_nearest_class_mean():
    features, labels = blobs(7, 5, "abcdefg")
    head = heads.lda(moments_of(features, labels))
    queries, _ = blobs(200, 5, seed=1)
    distances = ((queries[:, None] - features) ** 2).sum(axis=2)
    assert head.predict(queries).tolist() == [labels[i] for i in distances.argmin(axis=1)]


def test_one_image_per_class_has_the_class_means_as_weights():
    features, labels = blobs(7, 5, "abcdefg")
    head = heads.lda(moments_of(features, labels))
    np.testing.assert_allclose(head.weights, features.T, rtol=1e-5)


def test_copies_of_one_image_do_not_count_as_variation():
    features, labels = blobs(6, 5, "abcdef")
    head = heads.lda(moments_of(np.repeat(features, 3, axis=0), np.repeat(labels, 3).tolist()))
    assert head.predict(features).tolist() == labels


def test_constant_features_are_harmless():
    features, labels = blobs(60, 4)
    constant = np.hstack([features, np.zeros((60, 1)), np.full((60, 1), 3.0)]).astype(np.float32)
    head = heads.lda(moments_of(constant, labels))
    assert np.isfinite(head.weights).all()
    assert (head.predict(constant) == np.array(labels)).mean() > 0.8


def test_more_features_than_images_still_give_a_head():
    features, labels = blobs(9, 64, spread=0.2)
    head = heads.lda(moments_of(features, labels))
    assert head.predict(features).tolist() == labels


def test_softmax_is_the_logistic_regression_of_scikit_learn():
    features, labels = blobs(150, 6, "abcd", spread=2.0)
    head = heads.softmax(features, labels)
    scaled = StandardScaler().fit(features.astype(np.float64))
    inputs = scaled.transform(features.astype(np.float64))
    oracle = LogisticRegression(C=1, tol=1e-10, max_iter=5000).fit(inputs, labels)
    weights = (head.weights * scaled.scale_[:, None]).T
    np.testing.assert_allclose(weights.sum(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(weights, oracle.coef_ - oracle.coef_.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(
        head.probabilities(features), oracle.predict_proba(inputs), atol=1e-3
    )
    assert regularised_loss(head.probabilities(features), weights, labels) <= (
        regularised_loss(oracle.predict_proba(inputs), oracle.coef_, labels) + 1e-6
    )


def regularised_loss(probabilities, weights, labels):
    given = probabilities[np.arange(len(labels)), ["abcd".index(label) for label in labels]]
    return -np.log(given).mean() + (weights**2).sum() / (2 * len(labels))


def test_softmax_leaves_a_constant_feature_without_weight():
    features, labels = blobs(60, 3)
    constant = np.hstack([features, np.full((60, 1), 5.0)]).astype(np.float32)
    head = heads.softmax(constant, labels)
    np.testing.assert_allclose(head.weights[-1], 0, atol=1e-5)
    np.testing.assert_allclose(
        head.probabilities(constant),
        heads.softmax(features, labels).probabilities(features),
        atol=1e-3,
    )


def test_softmax_of_a_single_class_is_sure_of_it():
    features, _ = blobs(10, 3)
    assert heads.softmax(features, ["only"] * 10).probabilities(features).tolist() == [[1.0]] * 10


def test_the_frame_from_moments_is_that_of_the_features():
    features, labels = blobs(90, 6)
    a = heads.Standardisation.of_features(features)
    b = heads.Standardisation.of_moments(moments_of(features, labels))
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-9)
    np.testing.assert_allclose(a.scale, b.scale, rtol=1e-9)


def test_columns_that_are_not_free_keep_their_bits():
    features, labels = blobs(60, 6)
    start = LinearHead(tuple("abc"), random_head(6, 3).weights, random_head(6, 3).bias)
    frame = heads.Standardisation.of_features(features)
    free = np.array([False, True, False])
    fitted = heads.fit_columns(start, features, labels, frame, free)
    np.testing.assert_array_equal(fitted.weights[:, ~free], start.weights[:, ~free])
    np.testing.assert_array_equal(fitted.bias[~free], start.bias[~free])
    assert not np.array_equal(fitted.weights[:, free], start.weights[:, free])


def test_probabilities_are_the_softmax_of_the_logits():
    head, features = random_head(), blobs(20, 6)[0]
    reference = features.astype(np.float64) @ head.weights.astype(np.float64) + head.bias
    np.testing.assert_allclose(head.logits(features), reference, rtol=1e-4, atol=1e-5)
    probabilities = head.probabilities(features)
    np.testing.assert_allclose(probabilities, special.softmax(reference, axis=1), atol=1e-5)
    assert probabilities.dtype == np.float64
    chosen = np.array(head.classes)[reference.argmax(axis=1)]
    assert head.predict(features).tolist() == chosen.tolist()


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("rows", [1, 5, 255, 256, 257, 600])
def test_a_logit_keeps_its_bits_whatever_stands_beside_it(rows, columns):
    head = random_head(70, 130)
    features, _ = blobs(600, 70)
    everything = head.logits(features)
    fewer = LinearHead(head.classes[:columns], head.weights[:, :columns], head.bias[:columns])
    logits = fewer.logits(features[-rows:])
    assert logits.shape == (rows, columns)
    assert logits.tobytes() == everything[-rows:, :columns].tobytes()


def test_logits_of_no_image_have_no_row():
    assert random_head().logits(np.zeros((0, 6), np.float32)).shape == (0, 5)


def test_ordered_moves_columns_and_their_names_together():
    head, features = random_head(), blobs(10, 6)[0]
    turned = head.ordered(head.classes[::-1])
    assert turned.classes == head.classes[::-1]
    np.testing.assert_array_equal(turned.weights, head.weights[:, ::-1])
    np.testing.assert_array_equal(turned.bias, head.bias[::-1])
    assert turned.predict(features).tolist() == head.predict(features).tolist()


def test_a_saved_head_comes_back_with_the_same_bits(tmp_path):
    head = random_head(7, 3).ordered(["class 2", "class 0", "class 1"])
    named = LinearHead(("red panda", "Zèbre", "キツネ"), head.weights, head.bias)
    heads.save(named, tmp_path / "head.h5")
    assert_same_bits(heads.load(tmp_path / "head.h5"), named)


def test_the_same_head_is_saved_as_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        heads.save(random_head(), tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("keep", [0, 1, 100, 1000, -1])
def test_a_truncated_head_is_refused(tmp_path, keep):
    path = tmp_path / "head.h5"
    heads.save(random_head(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunError, match=r"head\.h5 is damaged"):
        heads.load(path)


@pytest.mark.parametrize("missing", ["classes", "weights", "bias"])
def test_a_head_without_one_of_its_parts_is_refused(tmp_path, missing):
    path = tmp_path / "head.h5"
    heads.save(random_head(), path)
    with h5py.File(path, "a") as file:
        del file[missing]
    with pytest.raises(RunError, match="damaged"):
        heads.load(path)


def test_a_head_of_a_newer_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "head.h5"
    files.save_arrays(path, {"something": np.zeros(1)}, {"format": heads.FORMAT + 1})
    before = path.read_bytes()
    with pytest.raises(RunError, match="Upgrade tlcli"):
        heads.load(path)
    assert path.read_bytes() == before


def test_a_head_whose_weights_lie_in_another_file_is_refused(tmp_path):
    path, other = tmp_path / "head.h5", tmp_path / "other.h5"
    heads.save(random_head(), path)
    heads.save(random_head(seed=1), other)
    with h5py.File(path, "a") as file:
        del file["weights"]
        file["weights"] = h5py.ExternalLink("other.h5", "/weights")
    with pytest.raises(RunError, match="link to elsewhere"):
        heads.load(path)


def test_an_unknown_head_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"lda.*softmax.*'svm'"):
        heads.require_known("svm")
    for name in heads.HEADS:
        heads.require_known(name)
