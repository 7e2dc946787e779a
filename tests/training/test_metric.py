"""Metric learning: the losses, the batches, and when it stops."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tlcli.config import TrainingOptions, no_progress
from tlcli.errors import DataError, UsageError
from tlcli.training import Checkpoints, Labelled, Metric, MetricSetup, fit_projection, losses
from tlcli.training.objectives import OBJECTIVES
from tlcli.training.order import by_class

METRICS = {name: row.metric for name, row in OBJECTIVES.items() if row.metric}

Vectors = NDArray[np.float32]


def directions(seed: int, count: int, width: int) -> Vectors:
    found = np.random.default_rng(seed).standard_normal((count, width))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32)


def plain_triplet(z: Vectors, y: NDArray[np.int64], margin: float) -> tuple[float, int]:
    """As the paper says it, one pair after the other."""
    distance = ((z[:, None] - z[None]) ** 2).sum(axis=2)
    terms = []
    for a in range(len(z)):
        others = distance[a][y != y[a]]
        for p in range(len(z)):
            if p == a or y[p] != y[a]:
                continue
            beyond = others[others > distance[a, p]]
            n = beyond.min() if len(beyond) else others.max()
            terms.append(max(0.0, distance[a, p] - n + margin))
    positive = [term for term in terms if term > 0]
    return float(np.mean(positive)), len(positive)


def plain_multi_similarity(z: Vectors, y: NDArray[np.int64]) -> float:
    similar, total = z @ z.T, 0.0
    for i in range(len(z)):
        own = similar[i][(y == y[i]) & (np.arange(len(z)) != i)]
        others = similar[i][y != y[i]]
        positive, negative = own[own < others.max() + 0.1], others[others > own.min() - 0.1]
        total += np.log1p(np.exp(-2 * (positive - 0.5)).sum()) / 2
        total += np.log1p(np.exp(50 * (negative - 0.5)).sum()) / 50
    return total / len(z)


def plain_proxy_anchor(z: Vectors, y: NDArray[np.int64], proxies: Vectors) -> float:
    similar = z @ (proxies / np.linalg.norm(proxies, axis=1, keepdims=True)).T
    own = [np.exp(-32 * (similar[y == c, c] - 0.1)).sum() for c in range(len(proxies))]
    others = [np.exp(32 * (similar[y != c, c] + 0.1)).sum() for c in range(len(proxies))]
    return float(np.log1p(own).sum() / len(set(y)) + np.log1p(others).mean())


def plain_softmax_margin(z: Vectors, y: NDArray[np.int64], proxies: Vectors) -> float:
    logits = 16 * z @ (proxies / np.linalg.norm(proxies, axis=1, keepdims=True)).T
    logits[np.arange(len(y)), y] -= 16 * 0.2
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return float(-np.log(shares[np.arange(len(y)), y]).mean())


def test_losses_are_what_the_papers_say() -> None:
    z, y = directions(0, 12, 5), np.repeat(np.arange(3), 4)
    proxies = 2 * directions(1, 4, 5)
    loss, count = losses.triplet(z, y, None)
    assert (float(loss), int(count)) == pytest.approx(plain_triplet(z, y, 0.2), rel=1e-4)
    assert float(losses.multi_similarity(z, y, None)[0]) == pytest.approx(
        plain_multi_similarity(z, y), rel=1e-4
    )
    assert float(losses.proxy_anchor(z, y, proxies)[0]) == pytest.approx(
        plain_proxy_anchor(z, y, proxies), rel=1e-4
    )
    assert float(losses.softmax_margin(z, y, proxies)[0]) == pytest.approx(
        plain_softmax_margin(z, y, proxies), rel=1e-4
    )


def test_a_batch_has_as_many_images_of_as_many_classes() -> None:
    columns = np.repeat([0, 1, 2, 3, 4], [9, 7, 2, 1, 6])
    order = by_class(3, 4)(columns, 0, 1)
    assert len(order) == 12 * -(-len(columns) // 12)
    for batch in order.reshape(-1, 12):
        assert sorted(Counter(columns[batch]).values()) == [4, 4, 4]
        repeated = [row for row, count in Counter(batch).items() if count > 1]
        assert set(columns[repeated]) <= {2}, "of a class of two images each comes twice"
    assert 3 not in columns[order], "of one image no pair can be made"
    assert np.array_equal(order, by_class(3, 4)(columns, 0, 1))
    assert not np.array_equal(order, by_class(3, 4)(columns, 0, 2))


def crowd(spread: float, noise: float = 9.0) -> Labelled:
    """Six images of each of eight classes, and directions that say nothing of these."""
    random = np.random.default_rng(3)
    centres = np.repeat(random.standard_normal((8, 12)), 6, axis=0)
    vectors = centres + spread * random.standard_normal(centres.shape)
    beside = noise * random.standard_normal((len(centres), 4))
    columns = np.repeat(np.arange(8), 6)
    return Labelled(np.hstack([vectors, beside]).astype(np.float32), columns)


def setup(folder: Path, name: str, **options: Any) -> MetricSetup:
    return MetricSetup(
        METRICS[name],
        12,
        TrainingOptions(epochs=3, **options),
        Checkpoints(folder, {}),
        False,
        lambda epoch: None,
        no_progress,
    )


def constant(descriptors: Vectors) -> tuple[float, float]:
    return 0.5, 0.5


@pytest.mark.parametrize("name", METRICS)
def test_every_objective_lowers_its_loss(tmp_path: Path, name: str) -> None:
    data = crowd(1.0)
    found, history = fit_projection(setup(tmp_path, name, lr=0.1), data, data.vectors, constant)
    assert found.matrix.shape == (16, 16)
    assert np.isfinite(found.matrix).all()
    assert history.epochs[-1].loss < history.epochs[0].loss


def test_the_epoch_that_is_best_on_held_out_images_is_kept(tmp_path: Path) -> None:
    data, seen = crowd(1.0), []

    def measure(descriptors: Vectors) -> tuple[float, float]:
        seen.append(descriptors)
        return (0.1, 0.9, 0.2, 0.3)[len(seen) - 1], 0.5

    found, history = fit_projection(setup(tmp_path, "triplet", lr=0.1), data, data.vectors, measure)
    assert history.best == 1
    kept = (data.vectors - found.centre) @ found.matrix
    kept /= np.linalg.norm(kept, axis=1, keepdims=True)
    assert np.abs(kept - seen[1]).max() < 1e-4
    assert np.abs(kept - seen[3]).max() > 1e-2


@pytest.mark.parametrize("name", ["triplet", "multi-similarity"])
def test_batches_that_teach_nothing_end_it(tmp_path: Path, name: str) -> None:
    data = crowd(1e-3, 1e-3)
    with pytest.raises(UsageError, match=r"triplet.*none in the first epoch.*softmax-margin"):
        fit_projection(setup(tmp_path, name), data, data.vectors, constant)


@pytest.mark.parametrize("name", METRICS)
def test_a_collapse_ends_it(tmp_path: Path, name: str) -> None:
    """Images that are all alike can have no other vectors than the same."""
    data = Labelled(np.ones((16, 6), np.float32), np.repeat(np.arange(4), 4))
    with pytest.raises(UsageError, match="all are alike"):
        fit_projection(setup(tmp_path, name), data, data.vectors, constant)


def test_a_loss_that_is_not_finite_ends_it(tmp_path: Path) -> None:
    data, divided = crowd(1.0), Metric(lambda z, y, proxies: (0 * z[0, 0] / 0, z[0, 0]), False)
    with pytest.raises(UsageError, match=r"finite loss.*smaller --lr"):
        asked = replace(setup(tmp_path, "triplet"), metric=divided)
        fit_projection(asked, data, data.vectors, constant)


def test_what_cannot_fill_a_batch_is_refused(tmp_path: Path) -> None:
    single = Labelled(directions(0, 5, 6), np.array([0, 0, 1, 2, 3]))
    with pytest.raises(DataError, match="at least 2 classes of two or more"):
        fit_projection(setup(tmp_path, "triplet"), single, single.vectors, constant)
    data = crowd(1.0)
    for size in (4, 10, 36):
        with pytest.raises(UsageError, match=rf"batch-size={size}\. Use a multiple of 4 from 8"):
            batch = setup(tmp_path, "triplet", batch_size=size)
            fit_projection(batch, data, data.vectors, constant)
