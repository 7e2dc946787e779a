"""Linear heads, in memory and on disk, and those solved by gradients against scikit-learn."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tests.support.arrays import Doubles
from tests.support.blobs import assert_same_bits, blobs, moments_of, random_head
from tlcli import files, heads
from tlcli.errors import RunError
from tlcli.heads import LinearHead
from tlcli.heads.gradient import softmax
from tlcli.heads.linear import FORMAT


def test_softmax_is_the_logistic_regression_of_scikit_learn() -> None:
    features, labels = blobs(150, 6, "abcd", spread=2.0)
    head = softmax(features, labels)
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


def regularised_loss(probabilities: Doubles, weights: Doubles, labels: list[str]) -> float:
    given = probabilities[np.arange(len(labels)), ["abcd".index(label) for label in labels]]
    return float(-np.log(given).mean() + (weights**2).sum() / (2 * len(labels)))


def test_softmax_leaves_a_constant_feature_without_weight() -> None:
    features, labels = blobs(60, 3)
    constant = np.hstack([features, np.full((60, 1), 5.0)]).astype(np.float32)
    head = softmax(constant, labels)
    np.testing.assert_allclose(head.weights[-1], 0, atol=1e-5)
    np.testing.assert_allclose(
        head.probabilities(constant),
        softmax(features, labels).probabilities(features),
        atol=1e-3,
    )


def test_balanced_softmax_is_that_of_scikit_learn_and_hears_a_rare_class() -> None:
    features, labels = blobs(200, 4, "aaaaaaaabc", spread=2.0)
    scaled = StandardScaler().fit(features.astype(np.float64))
    inputs = scaled.transform(features.astype(np.float64))
    oracle = LogisticRegression(C=1, tol=1e-10, max_iter=5000, class_weight="balanced")
    head = softmax(features, labels, balanced=True)
    expected = oracle.fit(inputs, labels).predict_proba(inputs)
    np.testing.assert_allclose(head.probabilities(features), expected, atol=1e-3)
    rare = np.array(labels) == "b"
    usual = softmax(features, labels).probabilities(features)
    assert head.probabilities(features)[rare, 1].mean() > usual[rare, 1].mean() + 0.1


def test_softmax_of_a_single_class_is_sure_of_it() -> None:
    features, _ = blobs(10, 3)
    assert softmax(features, ["only"] * 10).probabilities(features).tolist() == [[1.0]] * 10


def test_the_frame_from_moments_is_that_of_the_features() -> None:
    features, labels = blobs(90, 6)
    a = heads.Standardisation.of_features(features)
    b = heads.Standardisation.of_moments(moments_of(features, labels))
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-9)
    np.testing.assert_allclose(a.scale, b.scale, rtol=1e-9)


def test_columns_that_are_not_free_keep_their_bits() -> None:
    features, labels = blobs(60, 6)
    start = LinearHead(tuple("abc"), random_head(6, 3).weights, random_head(6, 3).bias)
    frame = heads.Standardisation.of_features(features)
    free = np.array([False, True, False])
    fitted = heads.fit_columns(start, heads.Task(features, labels, frame, free))
    np.testing.assert_array_equal(fitted.weights[:, ~free], start.weights[:, ~free])
    np.testing.assert_array_equal(fitted.bias[~free], start.bias[~free])
    assert not np.array_equal(fitted.weights[:, free], start.weights[:, free])


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    head, features = random_head(), blobs(20, 6)[0]
    reference = features.astype(np.float64) @ head.weights.astype(np.float64) + head.bias
    np.testing.assert_allclose(head.logits(features), reference, rtol=1e-4, atol=1e-5)
    probabilities = head.probabilities(features)
    np.testing.assert_allclose(probabilities, special.softmax(reference, axis=1), atol=1e-5)
    assert probabilities.dtype == np.float64
    chosen = np.array(head.classes)[reference.argmax(axis=1)]
    assert head.predict(features).tolist() == chosen.tolist()


@pytest.mark.numerics
@pytest.mark.parametrize("columns", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("rows", [1, 5, 255, 256, 257, 600])
def test_a_logit_keeps_its_bits_whatever_stands_beside_it(rows: int, columns: int) -> None:
    head = random_head(70, 130)
    features, _ = blobs(600, 70)
    everything = head.logits(features)
    fewer = LinearHead(head.classes[:columns], head.weights[:, :columns], head.bias[:columns])
    logits = fewer.logits(features[-rows:])
    assert logits.shape == (rows, columns)
    assert logits.tobytes() == everything[-rows:, :columns].tobytes()


def test_logits_of_no_image_have_no_row() -> None:
    assert random_head().logits(np.zeros((0, 6), np.float32)).shape == (0, 5)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 30.0])
def test_a_calibrated_head_has_the_same_probabilities_without_a_temperature(
    temperature: float,
) -> None:
    head, features = replace(random_head(), temperature=temperature), blobs(20, 6)[0]
    calibrated = head.calibrated()
    assert calibrated.temperature == 1.0
    expected = head.probabilities(features)
    np.testing.assert_allclose(calibrated.probabilities(features), expected, atol=1e-4)


def test_what_all_columns_share_is_taken_away_where_it_is_most_of_them() -> None:
    """A softmax does not see it; float32 loses digits to it."""
    head, features = random_head(), blobs(20, 6)[0]
    assert head.summable() is head
    common = 100 * np.linalg.norm(head.weights) * np.arange(1, 7)
    burdened = replace(head, weights=(head.weights + common[:, None]).astype(np.float32))
    light = burdened.summable()
    assert np.linalg.norm(light.weights) < 2 * np.linalg.norm(head.weights)
    exact = features.astype(np.float64) @ burdened.weights.astype(np.float64) + burdened.bias
    expected = special.softmax(exact, axis=1)
    np.testing.assert_allclose(light.probabilities(features), expected, atol=1e-5)
    assert np.abs(burdened.probabilities(features) - expected).max() > 1e-5
    empty = LinearHead.without_classes(6)
    assert empty.summable() is empty


def test_ordered_moves_columns_and_their_names_together() -> None:
    head, features = random_head(), blobs(10, 6)[0]
    turned = head.ordered(head.classes[::-1])
    assert turned.classes == head.classes[::-1]
    np.testing.assert_array_equal(turned.weights, head.weights[:, ::-1])
    np.testing.assert_array_equal(turned.bias, head.bias[::-1])
    assert turned.predict(features).tolist() == head.predict(features).tolist()


def test_a_saved_head_comes_back_with_the_same_bits(tmp_path: Path) -> None:
    head = random_head(7, 3).ordered(["class 2", "class 0", "class 1"])
    named = LinearHead(("red panda", "Zèbre", "キツネ"), head.weights, head.bias)
    heads.save(named, tmp_path / "head.h5")
    loaded = heads.load(tmp_path / "head.h5")
    assert_same_bits(loaded, named)
    assert loaded.temperature == 1.0
    heads.save(replace(named, temperature=0.1), tmp_path / "warm.h5")
    assert heads.load(tmp_path / "warm.h5").temperature == 0.1


def test_the_same_head_is_saved_as_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        heads.save(random_head(), tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("keep", [0, 1, 100, 1000, -1])
def test_a_truncated_head_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "head.h5"
    heads.save(random_head(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunError, match=r"head\.h5 is damaged"):
        heads.load(path)


@pytest.mark.parametrize("missing", ["classes", "weights", "bias"])
def test_a_head_without_one_of_its_parts_is_refused(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "head.h5"
    heads.save(random_head(), path)
    with h5py.File(path, "a") as file:
        del file[missing]
    with pytest.raises(RunError, match="damaged"):
        heads.load(path)


def test_a_head_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "head.h5"
    files.save_arrays(path, {"something": np.zeros(1)}, {"format": FORMAT + 1})
    before = path.read_bytes()
    with pytest.raises(RunError, match="Upgrade tlcli"):
        heads.load(path)
    assert path.read_bytes() == before


def test_a_head_whose_weights_lie_in_another_file_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "head.h5", tmp_path / "other.h5"
    heads.save(random_head(), path)
    heads.save(random_head(seed=1), other)
    with h5py.File(path, "a") as file:
        del file["weights"]
        file["weights"] = h5py.ExternalLink("other.h5", "/weights")
    with pytest.raises(RunError, match="link to elsewhere"):
        heads.load(path)
