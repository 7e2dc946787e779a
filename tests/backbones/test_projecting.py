"""A learned projection as the last layers of a backbone."""

import numpy as np

from tests.support import tiny
from tlcli import backbones
from tlcli.backbones import probe_images
from tlcli.backbones.probing import fixed_point_bits
from tlcli.backbones.weights import Random


def test_features_are_projected_and_of_length_one() -> None:
    model = tiny.build("EfficientNetLite0", None, Random())
    images = probe_images(tiny.IMAGE_SIZE, 4)
    features = np.asarray(model(images), np.float64)
    random = np.random.default_rng(0)
    centre = random.normal(size=16).astype(np.float32)
    matrix = random.normal(size=(16, 5)).astype(np.float32)
    found = backbones.projected(model, centre, matrix)
    expected = (features - centre) @ matrix
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(found(images)), expected, atol=1e-5)
    assert found.output_shape == (None, 5)
    assert "metric_1" in backbones.blocks(found, "EfficientNetLite0")[-1].layers


def test_no_feature_of_length_one_leaves_the_grid() -> None:
    """Probe images tell little of how far photographs reach."""
    even = np.full((3, 256), 1 / 16, np.float32)
    bits = fixed_point_bits("unit", even)
    assert 2**bits < 2**16
    assert fixed_point_bits("other", even * np.float32(0.5)) > bits


def test_a_projection_can_follow_another() -> None:
    model = tiny.build("EfficientNetLite0", None, Random())
    once = backbones.projected(model, np.zeros(16, np.float32), np.eye(16, 8, dtype=np.float32))
    twice = backbones.projected(once, np.zeros(8, np.float32), np.eye(8, 4, dtype=np.float32))
    images = probe_images(tiny.IMAGE_SIZE, 2)
    first = np.asarray(once(images))[:, :4]
    expected = first / np.linalg.norm(first, axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(twice(images)), expected, atol=1e-5)
    names = {backbones.fingerprint(one, "EfficientNetLite0") for one in (model, once, twice)}
    assert len(names) == 3
