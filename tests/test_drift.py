"""Moments whose backbone has moved while their images are gone."""

import numpy as np
import pytest

from tests.support.arrays import Doubles, Floats, Mask
from tests.support.blobs import BITS, blobs, examples_of, moments_of
from tlcli import drift, moments


def pair(
    count: int = 300, width: int = 6, noise: float = 0.0, seed: int = 0
) -> tuple[Floats, Floats, list[str], Doubles]:
    """Old features, and the same images seen by a backbone that has moved linearly."""
    rng = np.random.default_rng(seed)
    old, labels = blobs(count, width, seed=seed)
    true = np.eye(width) + 0.2 * rng.normal(size=(width, width))
    new = old @ true + noise * rng.normal(size=old.shape)
    return old, new.astype(np.float32), labels, true


def held(count: int) -> Mask:
    found: Mask = np.arange(count) % 5 == 0
    return found


def test_a_linear_drift_is_found() -> None:
    old, new, _, true = pair()
    found = drift.fit(old, new, held(len(old)))
    assert found.r2 and found.r2 > 0.99
    assert found.images == 300
    np.testing.assert_allclose(found.matrix, true, atol=0.05)


def test_r2_is_measured_on_images_that_the_map_has_not_seen() -> None:
    """A map of noise looks good on the images that it was fitted on, and on no others."""
    rng = np.random.default_rng(0)
    old = rng.normal(size=(60, 50)).astype(np.float32)
    new = rng.normal(size=(60, 50)).astype(np.float32)
    found = drift.fit(old, new, held(60)).r2
    assert found is not None and found < 0.1


def test_directions_that_no_image_shows_stay_as_they_are() -> None:
    old, new, _, _ = pair(width=6)
    old[:, 4:] = 0
    new = old.copy()
    new[:, :4] *= 1.5
    matrix = drift.fit(old, new, held(len(old))).matrix
    np.testing.assert_allclose(matrix[4:, 4:], np.eye(2), atol=1e-6)


def test_moved_moments_are_those_of_moved_features() -> None:
    old, new, labels, _ = pair()
    found = drift.fit(old, new, held(len(old)))
    carried = found.moments(moments_of(old, labels), "backbone-b", BITS)
    moved = found.vectors(examples_of(old, labels)).vectors[:]
    expected = moments.of(moved, labels, "backbone-b", BITS)
    assert (carried.fingerprint, carried.classes) == ("backbone-b", expected.classes)
    np.testing.assert_array_equal(carried.counts, expected.counts)
    np.testing.assert_allclose(carried.sums, expected.sums, atol=len(old))
    scale = float(np.abs(expected.gram).max())
    np.testing.assert_allclose(carried.gram, expected.gram, atol=2e-3 * scale)
    np.testing.assert_array_equal(carried.gram, carried.gram.T)


@pytest.mark.parametrize("bits", [BITS - 2, BITS + 1])
def test_another_grid_is_taken_into_account(bits: int) -> None:
    old, new, labels, _ = pair()
    found = drift.fit(old, new, held(len(old)))
    state = moments_of(old, labels)
    sums = found.moments(state, "b", bits).sums * 2.0**-bits
    np.testing.assert_allclose(sums, found.moments(state, "b", BITS).sums * 2.0**-BITS, atol=0.01)


def test_few_images_say_nothing_of_r2() -> None:
    old, new, _, _ = pair(count=12)
    assert drift.fit(old, new, held(12)).r2 is None


def test_without_drift_nothing_moves() -> None:
    old, _, labels, _ = pair()
    found = drift.fit(old, old, held(len(old)))
    assert found.r2 == 1.0
    state = moments_of(old, labels)
    np.testing.assert_array_equal(found.moments(state, "b", BITS).gram, state.gram)
