"""Flip, rotation, shift and zoom at once."""

from typing import Any

import numpy as np
import pytest

from tlcli import backbones
from tlcli.training.warping import Extent, Warp


def pixels(count: int = 16) -> Any:
    """Smooth pictures."""
    x, y = np.meshgrid(np.arange(24), np.arange(24))
    waves = [np.sin(x / (2 + row) + row) * np.cos(y / 3 - row) for row in range(count)]
    return 128 + 100 * np.repeat(np.array(waves, np.float32)[..., None], 3, axis=3)


@pytest.mark.parametrize(
    ("extent", "layer", "arguments"),
    [
        (Extent(rotation=(0.05, 0.05)), "RandomRotation", [(0.05, 0.05)]),
        (Extent(shift=(0.25, 0.25)), "RandomTranslation", [(0.25, 0.25)] * 2),
        (Extent(zoom=(-0.3, -0.3)), "RandomZoom", [(-0.3, -0.3)]),
        (Extent(zoom=(-0.3, -0.3), stretches=True), "RandomZoom", [(-0.3, -0.3)]),
    ],
)
def test_each_alone_is_a_layer_of_keras(extent: Extent, layer: str, arguments: list[Any]) -> None:
    """Behind a flip of about half of the images."""
    layers = backbones.keras_module().layers
    keras = getattr(layers, layer)(*arguments, fill_mode="reflect")
    made = np.array(Warp(extent, seed=0)(pixels(), training=True))
    plain, flipped = (np.array(keras(p, training=True)) for p in (pixels(), pixels()[:, :, ::-1]))
    is_plain = np.abs(made - plain).max(axis=(1, 2, 3)) < 1e-3
    is_flipped = np.abs(made - flipped).max(axis=(1, 2, 3)) < 1e-3
    assert (is_plain ^ is_flipped).all()
    assert 2 < is_flipped.sum() < 14


def test_images_of_a_batch_are_moved_apart_and_again_alike() -> None:
    warp = Warp(Extent((-0.1, 0.1), (-0.2, 0.2), (-0.3, 0.3), stretches=True), seed=0)
    same = np.repeat(pixels(1), 4, axis=0)
    before = [variable.numpy() for variable in warp.variables]
    first, second = (np.array(warp(same, training=True)) for _ in range(2))
    assert len({image.tobytes() for image in (*first, *second)}) == 8
    for variable, value in zip(warp.variables, before, strict=True):
        variable.assign(value)
    np.testing.assert_array_equal(np.array(warp(same, training=True)), first)
