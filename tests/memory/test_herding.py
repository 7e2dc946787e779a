"""Herding against its definition, written down naively."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.support.arrays import Doubles, Floats
from tlcli.features import Examples, Vectors
from tlcli.memory import herd
from tlcli.memory.herding import centres_of, normalised

VALUES = st.floats(-100, 100, width=32, allow_subnormal=False)
ROWS = arrays.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=VALUES)


def by_definition(vectors: Floats, mean: Doubles | None, k: int) -> list[int]:
    """Algorithm 4 of iCaRL."""
    lengths = [np.linalg.norm(row.astype(float)) for row in vectors]
    rows = [row.astype(float) / length for row, length in zip(vectors, lengths, strict=True)]
    mean = np.mean(rows, axis=0) if mean is None else mean
    chosen: list[int] = []
    while len(chosen) < k:
        free = [row for row in range(len(rows)) if row not in chosen]
        means = [np.mean([rows[i] for i in [*chosen, row]], axis=0) for row in free]
        far = [np.linalg.norm(mean - candidate) for candidate in means]
        chosen.append(free[int(np.argmin(far))])
    return chosen


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("given_mean", [False, True])
def test_rows_are_chosen_as_defined(seed: int, given_mean: bool) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(0.3, 1, (30, 5)).astype(np.float32)
    vectors *= random.uniform(0.1, 50, (30, 1)).astype(np.float32)
    mean = random.normal(0, 0.3, 5) if given_mean else None
    assert herd(vectors, mean, 12) == by_definition(vectors, mean, 12)


@given(vectors=ROWS, k=st.integers(0, 14))
def test_each_choice_is_the_best_one(vectors: Floats, k: int) -> None:
    chosen = herd(vectors, None, k)
    assert len(chosen) == len(set(chosen)) == min(k, len(vectors))
    rows = normalised(vectors)
    for count in range(len(chosen)):
        free = [row for row in range(len(rows)) if row not in chosen[:count]]
        far = [
            np.linalg.norm(rows.mean(axis=0) - rows[[*chosen[:count], row]].mean(axis=0))
            for row in free
        ]
        assert far[free.index(chosen[count])] <= min(far) + 1e-7


@given(vectors=ROWS, k=st.integers(0, 12), smaller=st.integers(0, 12))
def test_a_smaller_budget_is_the_beginning_of_a_larger_one(
    vectors: Floats, k: int, smaller: int
) -> None:
    assert herd(vectors, None, k)[:smaller] == herd(vectors, None, min(k, smaller))


def test_of_equal_rows_the_lowest_is_chosen() -> None:
    row = np.random.default_rng(0).normal(0, 1, 1280).astype(np.float32)
    other = np.random.default_rng(1).normal(0, 1, 1280).astype(np.float32)
    vectors = np.array([other, *[row] * 37])
    assert herd(vectors, None, 5) == [1, 2, 3, 4, 5]
    assert herd(vectors[::-1], None, 5) == [0, 1, 2, 3, 4]


@given(ROWS.filter(lambda rows: rows.any(axis=1).all()))
def test_both_rows_of_two_are_equally_good(vectors: Floats) -> None:
    pair = vectors[[0, -1]]
    assert herd(pair, None, 2) == [0, 1]
    assert herd(pair[::-1], None, 2) == [0, 1]


def test_the_length_of_a_vector_does_not_matter() -> None:
    vectors = np.random.default_rng(0).normal(0, 1, (20, 6)).astype(np.float32)
    scaled = vectors * np.float32(2) ** np.arange(-10, 10, dtype=np.float32)[:, None]
    assert herd(vectors, None, 20) == herd(scaled, None, 20)


@pytest.mark.parametrize("count", [1, 3])
def test_zero_vectors_are_rows_like_others(count: int) -> None:
    vectors = np.zeros((count, 4), np.float32)
    assert herd(vectors, None, 5) == list(range(count))
    mixed = np.vstack([vectors, np.eye(4, dtype=np.float32)])
    assert sorted(herd(mixed, None, 9)) == list(range(count + 4))
    assert np.isfinite(normalised(mixed)).all()


def test_the_smallest_and_the_largest_vectors_have_length_one() -> None:
    vectors = np.array([[1e-38, 0], [3e38, 3e38]], np.float32)
    np.testing.assert_allclose(normalised(vectors), [[1, 0], [0.5**0.5, 0.5**0.5]])


def test_nothing_is_chosen_from_nothing() -> None:
    assert herd(np.empty((0, 4), np.float32), np.ones(4), 3) == []


@given(ROWS)
def test_a_centre_is_the_mean_of_vectors_of_length_one(vectors: Floats) -> None:
    names = tuple(f"{row:064x}" for row in range(len(vectors)))
    found = centres_of(Examples(names, ("a",) * len(names), Vectors.of(vectors)))
    assert found["a"].count == len(vectors)
    np.testing.assert_allclose(found["a"].mean, normalised(vectors).mean(axis=0), atol=1e-9)


@given(ROWS, st.integers(0, 12))
def test_a_centre_is_joined_and_parted_bit_for_bit(vectors: Floats, cut: int) -> None:
    names = tuple(f"{row:064x}" for row in range(len(vectors)))
    whole = Examples(names, ("a",) * len(names), Vectors.of(vectors))
    first, second = (
        centres_of(whole.take(range(*part.indices(len(whole))))).get("a")
        for part in (slice(cut), slice(cut, None))
    )
    if first and second:
        total = centres_of(whole)["a"].total
        np.testing.assert_array_equal(first.joined(second).total, total)
        np.testing.assert_array_equal(first.joined(second).without(second).total, first.total)
