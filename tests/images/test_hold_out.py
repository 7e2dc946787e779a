"""Laws of the splits: content decides, order and newcomers do not."""

import hashlib
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tlcli.errors import UsageError
from tlcli.images import folds, holdout, set_apart, some_of_each


def sha(name: str | int) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


Images = list[tuple[str, str]]
Grouped = list[tuple[str, str, str]]

IMAGES = st.lists(
    st.tuples(st.integers(0, 10**6).map(sha), st.sampled_from("abcd")),
    unique_by=lambda image: image[0],
    max_size=40,
)
SHARES = st.floats(0, 1)


def columns(images: Images) -> tuple[list[str], list[str]]:
    return [image[0] for image in images], [image[1] for image in images]


@given(IMAGES, SHARES, st.randoms())
def test_holdout_does_not_depend_on_order(images: Images, share: float, random: Random) -> None:
    order = list(range(len(images)))
    random.shuffle(order)
    shuffled = holdout(*columns([images[i] for i in order]), share)
    np.testing.assert_array_equal(shuffled, holdout(*columns(images), share)[order])


@given(IMAGES, SHARES)
def test_holdout_never_empties_a_class(images: Images, share: float) -> None:
    held = holdout(*columns(images), share)
    assert held.dtype == np.bool_
    assert held.shape == (len(images),)
    trained = {label for (_, label), out in zip(images, held, strict=True) if not out}
    assert trained == {label for _, label in images}


@given(IMAGES, IMAGES, SHARES)
def test_newcomers_move_no_training_image_to_validation(
    images: Images, newcomers: Images, share: float
) -> None:
    """Only an image that was kept back to fill its class may change sides."""
    known = {image[0] for image in images}
    everyone = images + [image for image in newcomers if image[0] not in known]
    before = holdout(*columns(images), share)
    after = holdout(*columns(everyone), share)[: len(images)]
    for (digest, _), old, new in zip(images, before, after, strict=True):
        below = int(digest[:16], 16) / 2**64 < share
        assert new == old or below


@given(IMAGES)
def test_other_classes_change_nothing(images: Images) -> None:
    newcomers = [(sha(f"new {i}"), "z") for i in range(5)]
    after = holdout(*columns(images + newcomers), 0.3)[: len(images)]
    np.testing.assert_array_equal(after, holdout(*columns(images), 0.3))


def test_holdout_takes_about_the_share() -> None:
    digests = [sha(i) for i in range(4000)]
    assert abs(holdout(digests, ["a"] * 4000, 0.2).mean() - 0.2) < 0.02
    assert not holdout(digests, ["a"] * 4000, 0).any()


def test_the_largest_hash_returns_to_training() -> None:
    assert holdout(["00" * 32, "22" * 32, "11" * 32], "aaa", 0.5).tolist() == [True, False, True]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="share="):
        holdout([], [], share)


def test_unequal_lengths_are_a_bug() -> None:
    with pytest.raises(ValueError, match="shorter"):
        holdout([sha(1)], [], 0.5)


@given(IMAGES, st.integers(1, 7), st.randoms())
def test_folds_do_not_depend_on_order(images: Images, k: int, random: Random) -> None:
    order = list(range(len(images)))
    random.shuffle(order)
    shuffled = folds(*columns([images[i] for i in order]), k)
    np.testing.assert_array_equal(shuffled, folds(*columns(images), k)[order])


@given(IMAGES, st.integers(2, 7))
def test_folds_divide_every_class_evenly(images: Images, k: int) -> None:
    fold = folds(*columns(images), k)
    assert fold.dtype == np.int64
    for name in {label for _, label in images}:
        sizes = np.bincount(fold[[label == name for _, label in images]], minlength=k)
        assert len(sizes) == k
        assert sizes.max() - sizes.min() <= 1
        assert sizes.sum() < 2 or (sizes > 0).sum() > 1


def test_copies_share_a_fold() -> None:
    assert folds(["11", "22", "11"], "aaa", 2).tolist() == [0, 1, 0]


def test_no_fold_is_refused() -> None:
    with pytest.raises(UsageError, match="k=0"):
        folds([], [], 0)


@given(IMAGES, st.floats(0, 0.5), st.randoms())
def test_set_apart_does_not_depend_on_order_and_keeps_half(
    images: Images, share: float, random: Random
) -> None:
    order = list(range(len(images)))
    random.shuffle(order)
    apart = set_apart(*columns(images), share)
    np.testing.assert_array_equal(
        set_apart(*columns([images[i] for i in order]), share), apart[order]
    )
    for label in "abcd":
        members = [i for i, image in enumerate(images) if image[1] == label]
        assert apart[members].sum() * 2 <= len(members)
        assert share == 0 or apart[members].sum() >= min(5, len(members) // 2)


@given(IMAGES, st.floats(0, 0.5))
def test_set_apart_takes_the_smallest_hashes(images: Images, share: float) -> None:
    apart = set_apart(*columns(images), share)
    for label in "abcd":
        members = [(image[0], out) for image, out in zip(images, apart, strict=True)
                   if image[1] == label]  # fmt: skip
        assert [out for _, out in sorted(members)] == sorted((out for _, out in members))[::-1]


@pytest.mark.parametrize(("images", "share", "expected"), [
    (100, 0.07, 7), (100, 0.071, 8), (30, 0.2, 6), (12, 0.2, 5), (9, 0.2, 4), (1, 0.5, 0),
    (100, 0, 0),
])  # fmt: skip
def test_how_many_are_set_apart(images: int, share: float, expected: int) -> None:
    names = [sha(number) for number in range(images)]
    assert set_apart(names, ["a"] * images, share).sum() == expected


@pytest.mark.parametrize("share", [-0.1, 0.51, float("nan")])
def test_set_apart_refuses_other_shares(share: float) -> None:
    with pytest.raises(UsageError):
        set_apart([], [], share)


# --- groups

GROUPED = st.lists(
    st.tuples(
        st.integers(0, 10**6).map(sha),
        st.sampled_from("abcd"),
        st.sampled_from(["", *map(sha, "uvwxyz")]),
    ),
    unique_by=lambda image: image[0],
    max_size=40,
)

Split = Callable[..., NDArray[Any]]
SPLITS: tuple[Split, ...] = (
    partial(holdout, share=0.3),
    partial(set_apart, share=0.3),
    partial(folds, k=5),
)


def parts(images: Grouped) -> tuple[list[str], list[str], list[str]]:
    hashes, labels, groups = ([image[i] for image in images] for i in range(3))
    return hashes, labels, groups


@pytest.mark.parametrize("split", SPLITS)
@given(images=GROUPED, random=st.randoms())
def test_no_group_is_divided_whatever_the_order(
    split: Split, images: Grouped, random: Random
) -> None:
    hashes, labels, groups = parts(images)
    found = split(hashes, labels, groups=groups)
    for group in set(groups) - {""}:
        assert len({part for part, own in zip(found, groups, strict=True) if own == group}) == 1
    order = list(range(len(images)))
    random.shuffle(order)
    hashes, labels, groups = parts([images[i] for i in order])
    np.testing.assert_array_equal(split(hashes, labels, groups=groups), found[order])


@pytest.mark.parametrize("split", SPLITS)
@given(images=GROUPED)
def test_where_no_image_has_a_group_nothing_changes(split: Split, images: Grouped) -> None:
    hashes, labels, _ = parts(images)
    np.testing.assert_array_equal(
        split(hashes, labels, groups=[""] * len(images)), split(hashes, labels)
    )


@given(GROUPED)
def test_groups_leave_every_class_something_to_learn(images: Grouped) -> None:
    hashes, labels, groups = parts(images)
    names = np.array(labels, object)
    held = holdout(hashes, labels, 0.9, groups)
    apart = set_apart(hashes, labels, 0.5, groups)
    fold = folds(hashes, labels, 5, groups)
    for name in set(labels):
        assert not held[names == name].all()
        assert apart[names == name].sum() <= (names == name).sum() // 2
        assert not any(groups) or all((fold[names == name] != number).any() for number in range(5))


def test_folds_of_groups_are_balanced() -> None:
    images = [(sha(i), "ab"[i % 2], sha(f"group {i // 4}")) for i in range(200)]
    hashes, labels, groups = parts(images)
    fold = folds(hashes, labels, 5, groups)
    assert np.bincount(fold).tolist() == [40] * 5


@given(IMAGES, st.integers(1, 5), st.randoms())
def test_some_of_each_class_do_not_depend_on_order(
    images: Images, most: int, random: Random
) -> None:
    """At most so many of each class, none passed over for one with a larger hash."""
    shuffled = random.sample(images, len(images))
    chosen = [shuffled[row] for row in some_of_each(*columns(shuffled), most)]
    assert chosen == [images[row] for row in some_of_each(*columns(images), most)]
    assert chosen == sorted(chosen)
    for name in {label for _, label in images}:
        rest = sorted(image for image in images if image[1] == name)
        assert [image for image in chosen if image[1] == name] == rest[:most]
