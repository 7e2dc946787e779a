"""The score of novelty, the limit, and groups, on Gaussian clouds."""

from typing import Any

import numpy as np
import pytest

from tests.support.arrays import Doubles, Floats
from tests.support.blobs import blobs, moments_of
from tlcli import clustering, gaussian, moments, novelty
from tlcli.novelty import Novelty

FEATURES, LABELS = blobs(240, spread=0.5)


def by_hand(
    features: Floats, means: Doubles, middle: Doubles, covariance: Doubles
) -> list[tuple[float, float]]:
    inverse = np.linalg.inv(covariance)

    def square(x: Doubles, m: Doubles) -> Any:
        return (x - m) @ inverse @ (x - m)

    def cosine(x: Doubles, m: Doubles) -> Any:
        return x @ m / np.linalg.norm(x) / np.linalg.norm(m)

    return [
        (1 - max(cosine(x, m) for m in means), min(square(x, m) for m in means) / square(x, middle))
        for x in features.astype(float)
    ]


def test_the_parts_are_the_angle_to_the_best_class_and_how_much_nearer_than_the_mean() -> None:
    total = moments_of(FEATURES, LABELS)
    expected = by_hand(
        FEATURES,
        gaussian.means(total),
        FEATURES.astype(float).mean(axis=0),
        gaussian.shrunken_covariance(total, "auto"),
    )
    np.testing.assert_allclose(Novelty.of(total).parts(FEATURES), expected, rtol=1e-6, atol=1e-9)


def score(parts: Doubles) -> Doubles:
    found: Doubles = parts.sum(axis=1)
    return found


def test_images_of_other_classes_are_more_novel() -> None:
    learned, labels = blobs(400, width=32, classes="abcdefgh", spread=0.2)
    measure = Novelty.of(moments_of(learned[:200], labels[:200]))
    others, _ = blobs(200, width=32, classes="abcdefgh", spread=0.2, seed=9)
    limit = novelty.threshold(score(measure.parts(learned[200:])), 0.05)
    assert (score(measure.parts(others)) > limit).mean() > 0.95


def test_known_images_score_as_if_they_had_not_been_learned() -> None:
    """Exactly so where n and ε of the shrinkage are those of all images, which is what is kept."""
    features = np.array([*FEATURES[:60], FEATURES[3] + 3], np.float32)
    labels = [*LABELS[:60], "alone"]
    total = moments_of(features, labels)
    amount = gaussian.usual_shrinkage(total.width, total.images)
    ridge = amount * np.trace(gaussian.covariance(total)) / total.width * np.eye(total.width)
    expected = []
    for place in range(len(features)):
        rest = np.arange(len(features)) != place
        names = [name for name, kept in zip(labels, rest, strict=True) if kept]
        left = moments_of(features[rest], names)
        scatter = gaussian.covariance(left) * left.images / total.images
        expected += by_hand(
            features[place : place + 1],
            gaussian.means(left),
            features[rest].astype(float).mean(axis=0),
            (1 - amount) * scatter + ridge,
        )
    found = Novelty.of(total).parts_without(features, tuple(labels))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_new_images_of_known_classes_exceed_the_limit_as_often_as_was_asked_for() -> None:
    """Over many draws: the mean rate, with the standard error of that mean."""
    rates = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        centres = rng.normal(0, 3, (4, 6))
        columns = np.arange(160) % 4
        drawn = (centres[columns] + rng.normal(size=(160, 6))).astype(np.float32)
        names = [f"c{column}" for column in columns]
        total = moments.of(drawn[:80], names[:80], "backbone-a", 12)
        measure = Novelty.of(total)
        limit = novelty.threshold(score(measure.parts_without(drawn[:80], tuple(names[:80]))), 0.1)
        rates.append((score(measure.parts(drawn[80:])) > limit).mean())
    assert np.mean(rates) == pytest.approx(0.1, abs=4 * np.std(rates) / np.sqrt(60))


@pytest.mark.parametrize(("count", "rate", "place"), [(99, 0.05, 95), (19, 0.05, 19), (3, 0.5, 2)])
def test_the_limit_is_an_order_statistic(count: int, rate: float, place: int) -> None:
    assert novelty.threshold(np.arange(1.0, count + 1), rate) == place


def test_too_few_images_give_no_limit() -> None:
    assert novelty.threshold(np.arange(18.0), 0.05) == float("inf")


def test_groups_are_the_clouds_and_the_largest_comes_first() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8))
    columns = np.repeat([2, 0, 1], [5, 20, 10])
    rows = centres[columns] + 0.1 * rng.normal(size=(35, 8))
    described = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    labels = tuple(str(column) for column in columns)
    least = clustering.separating_similarity(described, labels)
    products = described @ described.T
    same = columns[:, None] == columns
    others = ~np.eye(35, dtype=bool)
    expected = (products[same & others].mean() + products[~same].mean()) / 2
    assert least == pytest.approx(expected, rel=1e-5)
    assert clustering.clusters(described, least).tolist() == [2] * 5 + [0] * 20 + [1] * 10
    assert clustering.clusters(described[:1], least).tolist() == [0]
