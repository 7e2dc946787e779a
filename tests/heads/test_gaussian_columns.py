"""Gaussian columns: new classes beside a head whose images are gone."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.blobs import examples_of
from tlcli import heads, moments, strategies
from tlcli.config import StrategyOptions
from tlcli.errors import RunError
from tlcli.features import Examples, Vectors
from tlcli.heads import (
    Evidence,
    Generic,
    LinearHead,
    Recipe,
    gaussian_columns,
    generic,
)
from tlcli.strategies import STRATEGIES, StrategyInput

BITS, WIDTH, OLD, NEW = 12, 60, 6, 3


def images(names: list[str], each: int, seed: int, noise: int = 900) -> Examples:
    """Integers of NumPy's frozen generator: classes far apart, the same bits everywhere."""
    rows, labels = [], []
    random = np.random.RandomState(seed)
    for name in names:
        centre = np.random.RandomState(sum(name.encode())).randint(0, 2000, WIDTH)
        rows.append(centre + random.randint(-noise, noise, (each, WIDTH)))
        labels += [name] * each
    return examples_of(np.asarray(np.vstack(rows) / 2**10, np.float32), labels)


OLD_NAMES = [f"old {number}" for number in range(OLD)]
NEW_NAMES = [f"new {number}" for number in range(NEW)]
FIRST, SECOND = images(OLD_NAMES, 30, 0), images(NEW_NAMES, 30, 1)
TEST = images(OLD_NAMES + NEW_NAMES, 40, 2)
SAMPLE = replace(images(OLD_NAMES, 5, 3), labels=("",) * 5 * OLD)


def parent(name: str = "lda") -> LinearHead:
    total = moments.of(FIRST.vectors, FIRST.labels, "", BITS)
    return strategies.first(Recipe(name))(Evidence(total, FIRST, FIRST.take([])))


def extended(
    head: LinearHead, new: Examples, sample: Examples | None = None, strategy: str = "freeze-old"
) -> LinearHead:
    classes = (*head.classes, *sorted(set(new.labels) - set(head.classes)))
    told = StrategyInput(Recipe("lda"), classes, StrategyOptions())
    fit = strategies.following(STRATEGIES[strategy], told)
    return fit(Evidence(None, new, new.take([]), head, sample=sample))


def accuracy(head: LinearHead, names: list[str]) -> float:
    asked = TEST.where(np.isin(np.array(TEST.labels, object), names))
    return float((head.predict(asked.vectors) == np.array(asked.labels, object)).mean())


def only(*names: str) -> Examples:
    return SECOND.where(np.isin(np.array(SECOND.labels, object), names))


@pytest.mark.parametrize("name", heads.HEADS)
@pytest.mark.parametrize("sample", [None, SAMPLE], ids=["alone", "sample"])
def test_neither_old_nor_new_classes_are_lost(name: str, sample: Examples | None) -> None:
    head = extended(parent(name), SECOND, sample)
    assert accuracy(head, OLD_NAMES) > accuracy(parent(name), OLD_NAMES) - 0.03
    assert accuracy(head, NEW_NAMES) > 0.9


@pytest.mark.parametrize("sample", [None, SAMPLE], ids=["alone", "sample"])
def test_one_class_at_a_time_is_as_good(sample: Examples | None) -> None:
    head = parent()
    for name in NEW_NAMES:
        head = extended(head, only(name), sample)
    assert accuracy(head, OLD_NAMES + NEW_NAMES) > 0.9
    before = parent()
    assert head.weights[:, :OLD].tobytes() == before.weights.tobytes()
    assert head.bias[:OLD].tobytes() == before.bias.tobytes()
    assert head.temperature == before.temperature


def test_one_image_a_class_is_enough_for_a_column() -> None:
    few = SECOND.take([SECOND.labels.index(name) for name in NEW_NAMES])
    head = extended(parent(), few)
    assert np.isfinite(head.weights).all()
    assert accuracy(head, OLD_NAMES) > 0.9
    assert accuracy(head, NEW_NAMES) > 0.7


def test_old_answers_stay_where_cross_entropy_on_new_images_alone_takes_them() -> None:
    assert accuracy(extended(parent(), SECOND, strategy="naive"), OLD_NAMES) < 0.1
    assert accuracy(extended(parent(), SECOND), OLD_NAMES) > 0.9


def hard(strategy: str, sample: Examples | None) -> float:
    """The accuracy on old classes that overlap, and with new ones."""
    first, second = images(OLD_NAMES, 30, 0, 4000), images(NEW_NAMES, 30, 1, 4000)
    asked = images(OLD_NAMES, 40, 2, 4000)
    start = strategies.first(Recipe("softmax", c="1"))(Evidence(None, first, first.take([])))
    head = extended(start, second, sample, strategy)
    return float((head.predict(asked.vectors) == np.array(asked.labels, object)).mean())


@pytest.mark.parametrize("strategy", ["freeze-old", "lwf", "replay"])
def test_a_sample_stands_for_old_images(strategy: str) -> None:
    sample = replace(images(OLD_NAMES, 20, 3, 4000), labels=("",) * 20 * OLD)
    assert hard(strategy, sample) > hard(strategy, None) + 0.02


def test_the_mean_is_that_of_all_images_in_whatever_rounds_they_came() -> None:
    head = parent()
    for name in NEW_NAMES:
        head = extended(head, only(name))
    assert head.generic is not None
    assert head.generic.images == len(FIRST) + len(SECOND)
    everything = np.vstack([FIRST.vectors[:], SECOND.vectors[:]])
    np.testing.assert_allclose(head.generic.mean, everything.mean(axis=0, dtype=float), rtol=1e-9)


def test_the_lead_is_that_of_all_images_in_whatever_rounds_they_came() -> None:
    """With more columns the highest of them is further above the mean."""
    before, head = parent(), extended(parent(), SECOND)
    assert before.generic is not None
    assert head.generic is not None
    total = before.generic.lead * len(FIRST) + generic.lead(head, SECOND.vectors) * len(SECOND)
    expected = total / (len(FIRST) + len(SECOND))
    assert head.generic.lead == pytest.approx(expected, rel=1e-5)
    assert head.generic.lead != before.generic.lead


def test_the_mean_survives_the_file_and_a_head_without_one_is_read(tmp_path: Path) -> None:
    told = replace(parent(), generic=generic.expected(np.ones(WIDTH)))
    for head in (parent(), told, replace(parent(), generic=None)):
        heads.save(head, tmp_path / "head.h5")
        found = heads.load(tmp_path / "head.h5").generic
        if head.generic is None:
            assert found is None
        else:
            assert found is not None
            assert found.mean.tobytes() == head.generic.mean.tobytes()
            assert (found.images, found.lead) == (head.generic.images, head.generic.lead)
            assert found.expected == head.generic.expected


def test_a_class_is_added_to_one_alone() -> None:
    """Whose logit leads nothing."""
    one = FIRST.where(np.array(FIRST.labels, object) == OLD_NAMES[0])
    total = moments.of(one.vectors, one.labels, "", BITS)
    start = strategies.first(Recipe("lda"))(Evidence(total, one, one.take([])))
    head = extended(start, only(NEW_NAMES[0]))
    assert accuracy(head, [OLD_NAMES[0], NEW_NAMES[0]]) > 0.9


def test_a_mean_of_another_width_is_damage(tmp_path: Path) -> None:
    wrong = replace(parent(), generic=Generic(np.zeros(3), 1, 1.0))
    heads.save(wrong, tmp_path / "head.h5")
    with pytest.raises(RunError, match=r"head\.h5"):
        heads.load(tmp_path / "head.h5")


def test_a_new_class_that_is_the_generic_image_divides_by_nothing() -> None:
    same = Examples(("0" * 64,), ("new 0",), Vectors.of(np.ones((1, WIDTH), np.float32)))
    usual = Generic(np.ones(WIDTH), 10, 1.0)
    head = gaussian_columns.gaussian_columns(
        parent(), same, gaussian_columns.moments_of((same,)), usual
    )
    assert np.isfinite(head.weights).all()
    assert np.isfinite(head.bias).all()


@pytest.mark.numerics
def test_columns_have_the_bits_of_other_machines() -> None:
    head = extended(parent(), SECOND)
    assert head.generic is not None
    hasher = hashlib.sha256(np.ascontiguousarray(head.weights).tobytes() + head.bias.tobytes())
    hasher.update(head.generic.mean.tobytes() + np.float64(head.generic.lead).tobytes())
    assert hasher.hexdigest()[:16] == "7fe0ca58cd71fcd3"


def test_a_lead_is_the_highest_logit_above_the_mean_of_them() -> None:
    head = LinearHead(("a", "b"), np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    assert generic.lead(head, np.array([[3, 1], [0, 4]], np.float32)) == pytest.approx(1.5)
