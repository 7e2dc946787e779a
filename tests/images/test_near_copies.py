"""Images that look alike: which are linked, and what is said of them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlcli.images import LabelledImage
from tlcli.images.near_copies import DISTANCE, near_copies, perceptual


def image(number: int, label: str = "a", group: str = "") -> LabelledImage:
    sha = hashlib.sha256(b"%d" % number).hexdigest()
    return LabelledImage(Path(f"{number:03d}.png"), sha, label=label, group=group)


def places(images: list[LabelledImage], hashes: list[int | None]) -> list[list[int]]:
    found = near_copies(images, hashes)
    return [[int(one.path.stem) for one in members] for members in found.sets]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.data())
def test_pairs_within_the_distance_are_linked(hashes: list[int], data: st.DataObject) -> None:
    """As by comparing all with all; some are made near."""
    for value in hashes[:5]:
        bits = data.draw(st.sets(st.integers(0, 63), max_size=DISTANCE + 2))
        hashes = [*hashes, value ^ sum(1 << bit for bit in bits)]
    expected = {frozenset([i]) for i in range(len(hashes))}
    for i, one in enumerate(hashes):
        for j in range(i):
            if (one ^ hashes[j]).bit_count() <= DISTANCE:
                a, b = (next(s for s in expected if k in s) for k in (i, j))
                expected = (expected - {a, b}) | {a | b}
    found = places([image(i) for i in range(len(hashes))], list(hashes))
    assert {frozenset(members) for members in found} == {s for s in expected if len(s) > 1}


def test_a_group_stays_together_already() -> None:
    same: list[int | None] = [7, 7, 7]
    assert places([image(i, group="g") for i in range(3)], same) == []
    assert places([image(i, group="gh"[i // 2]) for i in range(3)], same) == [[0, 1, 2]]
    assert places([image(i) for i in range(3)], same) == [[0, 1, 2]]
    assert places([image(i) for i in range(3)], [7, None, 7]) == [[0, 2]]


def test_copies_in_two_classes_are_named() -> None:
    found = near_copies([image(0), image(1), image(2, "b")], [7, 7, 7])
    assert len(found.hints) == 2
    assert "('a')" in found.hints[1] and "('b')" in found.hints[1]
    assert near_copies([], []).hints == []


@pytest.mark.parametrize("change", ["brighter", "cropped"])
def test_a_changed_copy_has_a_near_hash(change: str) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(20, 200, (8, 8, 3))
    picture = np.kron(coarse, np.ones((10, 10, 1))).astype(np.uint8)
    other = picture + 20 if change == "brighter" else picture[1:, 1:]
    first, second = perceptual(picture), perceptual(other.astype(np.uint8))
    unlike = perceptual(picture[::-1])
    assert first is not None and second is not None and unlike is not None
    assert (first ^ second).bit_count() <= DISTANCE < (first ^ unlike).bit_count()


def test_a_plain_image_has_no_hash() -> None:
    assert perceptual(np.full((64, 64, 3), 90, np.uint8)) is None
