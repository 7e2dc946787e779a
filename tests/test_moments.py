"""Laws of the moments: integers, so any order, split or sharding gives the same bits."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.arrays import Floats
from tlcli import moments
from tlcli.errors import DataError, RunError

BITS = 10
WIDTH = 3
CLASSES = ("cat", "Cat", "red panda", "zèbre", "キツネ")

ROW = st.tuples(
    st.sampled_from(CLASSES),
    st.lists(st.floats(-80, 80, width=32), min_size=WIDTH, max_size=WIDTH),
)
ROWS = st.lists(ROW, max_size=12)
FOUND = ROWS.map(lambda rows: of(rows))


def of(
    rows: Sequence[tuple[str, Sequence[float]]], fingerprint: str = "backbone-a", bits: int = BITS
) -> moments.Moments:
    """The moments of (class, vector) pairs."""
    vectors = np.array([vector for _, vector in rows], np.float32).reshape(-1, WIDTH)
    return moments.of(vectors, [name for name, _ in rows], fingerprint, bits)


def none() -> moments.Moments:
    return moments.empty("backbone-a", BITS, WIDTH)


def state(found: moments.Moments) -> tuple[object, ...]:
    """Everything that moments hold, for comparison by value."""
    return (
        found.fingerprint,
        found.bits,
        found.classes,
        found.counts.tolist(),
        found.sums.tolist(),
        found.gram.tolist(),
        found.saturated,
        found.digest,
    )


@given(FOUND, FOUND)
def test_add_is_commutative(a: moments.Moments, b: moments.Moments) -> None:
    assert state(moments.add(a, b)) == state(moments.add(b, a))


@given(FOUND, FOUND, FOUND)
def test_add_is_associative(a: moments.Moments, b: moments.Moments, c: moments.Moments) -> None:
    left = moments.add(moments.add(a, b), c)
    assert state(left) == state(moments.add(a, moments.add(b, c)))


@given(FOUND)
def test_no_image_is_the_identity_of_add_and_subtract(a: moments.Moments) -> None:
    assert state(moments.add(a, none())) == state(moments.add(none(), a)) == state(a)
    assert state(moments.subtract(a, none())) == state(a)


@given(FOUND, FOUND)
def test_subtract_undoes_add(a: moments.Moments, b: moments.Moments) -> None:
    assert state(moments.subtract(moments.add(a, b), b)) == state(a)


@given(FOUND)
def test_a_class_without_images_leaves(a: moments.Moments) -> None:
    assert state(moments.subtract(a, a)) == state(none())


@given(ROWS, st.randoms(), st.lists(st.integers(0, 12), max_size=5))
def test_any_order_and_any_split_give_the_same_bits(
    rows: list[tuple[str, list[float]]], random: Random, cuts: list[int]
) -> None:
    """Shards of no and of one image are among the splits."""
    shuffled = list(rows)
    random.shuffle(shuffled)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    shards = [of(shuffled[a:b]) for a, b in itertools.pairwise(edges)]
    random.shuffle(shards)
    assert state(reduce(moments.add, shards)) == state(of(rows))


@given(ROWS)
def test_one_image_at_a_time_gives_the_same_bits(rows: list[tuple[str, list[float]]]) -> None:
    assert state(reduce(moments.add, [of([row]) for row in rows], none())) == state(of(rows))


@given(st.lists(ROW, min_size=1, max_size=12), st.data())
def test_taking_an_image_away_is_never_having_seen_it(
    rows: list[tuple[str, list[float]]], data: st.DataObject
) -> None:
    gone = data.draw(st.integers(0, len(rows) - 1))
    left = rows[:gone] + rows[gone + 1 :]
    assert state(moments.subtract(of(rows), of([rows[gone]]))) == state(of(left))


@pytest.mark.parametrize("sizes", [(1, 3, 10), (10, 3, 1), (3, 10, 1)], ids=str)
def test_rounds_of_classes_and_more_images_of_them_give_the_same_bits(
    sizes: tuple[int, int, int],
) -> None:
    """Rounds of 1, 3 and 10 new classes, each also with an image of every earlier class."""
    rng = np.random.default_rng(0)
    total = none()
    rows: list[tuple[str, list[float]]] = []
    for known in itertools.accumulate(sizes):
        found = [(f"class {i}", rng.uniform(-70, 70, WIDTH).tolist()) for i in range(known)]
        total, rows = moments.add(total, of(found)), rows + found
        assert state(total) == state(of(rows))
    assert len(total.classes) == 14
    assert sorted(total.counts) == sorted([3] * sizes[0] + [2] * sizes[1] + [1] * sizes[2])
    assert total.saturated > 0


@given(ROWS)
def test_moments_equal_exact_integer_arithmetic(rows: list[tuple[str, list[float]]]) -> None:
    found = of(rows)
    limit = 2**16 - 1
    grid = [
        (name, [max(-limit, min(limit, round(value * 2**BITS))) for value in vector])
        for name, vector in rows
    ]
    assert found.classes == tuple(sorted({name for name, _ in rows}))
    for row, known in enumerate(found.classes):
        members = [q for name, q in grid if name == known]
        assert found.counts[row] == len(members)
        assert found.sums[row].tolist() == [sum(column) for column in zip(*members, strict=True)]
    outer = [[sum(q[i] * q[j] for _, q in grid) for j in range(WIDTH)] for i in range(WIDTH)]
    assert found.gram.tolist() == outer
    assert found.images == len(rows)


def test_a_hundred_thousand_large_features_are_summed_exactly() -> None:
    rng = np.random.default_rng(0)
    features = rng.uniform(-64, 64, (100_000, 4)).astype(np.float32)
    features[:70_000, 0] = 63.999
    labels = rng.choice(["a", "b"], len(features)).tolist()
    found = moments.of(features, labels, "backbone-a", BITS)
    grid = np.clip(np.rint(features.astype(np.float64) * 2**BITS), -65535, 65535).astype(np.int64)
    np.testing.assert_array_equal(found.gram, np.einsum("ni,nj->ij", grid, grid))
    for row, name in enumerate("ab"):
        members = grid[np.array(labels) == name]
        assert found.counts[row] == len(members)
        assert found.sums[row].tolist() == [sum(column) for column in members.T.tolist()]
    corner = sum(value * value for value in grid[:, 0].tolist())
    assert int(found.gram[0, 0]) == corner > 2**47


class ReadInBlocks:
    """Rows that cannot be had all at once."""

    def __init__(self, rows: Floats, most: int) -> None:
        self.rows, self.most = rows, most
        self.shape = rows.shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: slice) -> Floats:
        block = self.rows[chosen]
        assert len(block) <= self.most
        return block


@pytest.mark.parametrize("count", [0, 1, 2047, 2048, 2049, 4096, 100_000])
def test_rows_are_read_a_block_at_a_time_and_none_is_lost(count: int) -> None:
    rng = np.random.default_rng(count)
    features = rng.uniform(-70, 70, (count, 2)).astype(np.float32)
    labels = rng.choice(["a", "b", "c"], count).tolist()
    found = moments.of(ReadInBlocks(features, 2048), labels, "backbone-a", BITS)
    grid = np.clip(np.rint(features.astype(np.float64) * 2**BITS), -65535, 65535).astype(np.int64)
    assert found.images == count
    np.testing.assert_array_equal(found.gram, np.einsum("ni,nj->ij", grid, grid))
    np.testing.assert_array_equal(found.sums.sum(axis=0), grid.sum(axis=0))
    assert found.saturated == np.count_nonzero(np.abs(features.astype(float)) * 2**BITS > 65535.5)


def test_a_block_of_the_largest_features_is_summed_without_rounding() -> None:
    assert moments._BLOCK_ROWS * moments.LARGEST**2 < 2**53
    rows = moments._BLOCK_ROWS - 1
    found = moments.of(np.full((rows, 2), 1e9, np.float32), ["a"] * rows, "backbone-a", BITS)
    assert found.gram.tolist() == [[rows * 65535**2] * 2] * 2
    assert found.saturated == 2 * rows


def test_more_images_of_a_known_class_join_it() -> None:
    found = moments.add(of([("cat", [1, 2, 3])]), of([("cat", [1, 0, 0]), ("Cat", [0, 0, 1])]))
    assert found.classes == ("Cat", "cat")
    assert found.counts.tolist() == [1, 2]
    assert found.sums.tolist() == [[0, 0, 1024], [2048, 2048, 3072]]


def test_features_are_rounded_to_the_grid() -> None:
    found = of([("cat", [0.0004, 0.0006, -1.5])])
    assert found.sums.tolist() == [[0, 1, -1536]]


def test_saturated_entries_are_clipped_counted_and_additive() -> None:
    a = of([("cat", [64.0, -1e30, 63.999])])
    b = of([("dog", [1e30, 0, 0])])
    assert a.sums.tolist() == [[65535, -65535, 65535]]
    assert (a.saturated, b.saturated) == (2, 1)
    both = moments.add(a, b)
    assert both.saturated == 3
    assert moments.subtract(both, b).saturated == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="finite"):
        of([("cat", [0, value, 0])])


@pytest.mark.parametrize(
    ("other", "named"),
    [({"fingerprint": "backbone-b"}, "backbone-b"), ({"bits": 9}, "9 bits")],
)
@pytest.mark.parametrize("combine", [moments.add, moments.subtract])
def test_moments_of_different_spaces_are_not_mixed(
    combine: Callable[..., moments.Moments], other: dict[str, Any], named: str
) -> None:
    rows = [("cat", [1, 2, 3])]
    with pytest.raises(RunError, match=f"backbone-a .10 bits.*{named}"):
        combine(of(rows), of(rows, **other))


def test_the_end_of_exactness_is_refused_and_not_passed() -> None:
    many = replace(of([("cat", [80.0] * WIDTH)]), counts=np.array([2**30]))
    with pytest.raises(DataError, match="not be exact"):
        moments.add(many, of([("cat", [1.0] * WIDTH)]))
    assert moments.add(many, of([("Cat", [1.0] * WIDTH)])).images == 2**30 + 1


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_never_leave_64_bits(sign: int) -> None:
    most = np.full((WIDTH, WIDTH), sign * 2**62)
    large = replace(of([("cat", [1.0] * WIDTH)]), gram=most)
    assert moments.add(replace(large, gram=most // 2), replace(large, gram=most // 2)).gram.any()
    with pytest.raises(DataError, match="not be exact"):
        moments.add(large, large)


@pytest.mark.parametrize("name", ["cat", "dog"])
def test_taking_away_more_than_was_learned_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=name):
        moments.subtract(of([("cat", [1, 2, 3])]), of([(name, [1, 2, 3])] * 2))


def test_taking_away_as_many_images_of_a_class_but_others_is_refused() -> None:
    with pytest.raises(DataError, match="cat"):
        moments.subtract(of([("cat", [1, 2, 3]), ("dog", [1, 2, 3])]), of([("cat", [3, 2, 1])]))


BASE = [("a", [1, 2, 3]), ("b", [4, 5, 6])]


@pytest.mark.parametrize(
    "other",
    [
        of(BASE, fingerprint="backbone-b"),
        of(BASE, bits=9),
        of([("a", [1, 2, 3]), ("c", [4, 5, 6])]),
        of([("a", [4, 5, 6]), ("b", [1, 2, 3])]),
        of([*BASE, ("a", [0, 0, 0])]),
        of([("A", [1, 2, 3]), ("b", [4, 5, 6])]),
        replace(of(BASE), counts=np.array([1, 2])),
        replace(of(BASE), sums=of(BASE).sums + np.eye(2, WIDTH, dtype=np.int64)),
        replace(of(BASE), gram=of(BASE).gram + np.eye(WIDTH, k=2, dtype=np.int64)),
        of([]),
        moments.empty("backbone-a", BITS, WIDTH + 1),
    ],
    ids=["print", "bits", "name", "swap", "zero", "case", "count", "sum", "gram", "none", "width"],
)
def test_the_digest_depends_on_every_part(other: moments.Moments) -> None:
    assert of(BASE).digest == of(BASE[::-1]).digest
    assert other.digest != of(BASE).digest


def test_names_and_numbers_cannot_trade_places_in_the_digest() -> None:
    assert of([("ab", [0, 0, 0]), ("c", [0, 0, 0])]).digest != (
        of([("a", [0, 0, 0]), ("bc", [0, 0, 0])]).digest
    )


def test_the_digest_of_a_known_state_never_changes() -> None:
    """It is published as `memory_sha256`: other versions and machines must find the same."""
    assert of(BASE).digest == "2b41595af6acb046444732123e264a0ebf2e368c18e9052ebe4cf12a197ce10e"
