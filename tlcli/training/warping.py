"""Flip, rotation, shift and zoom of images in one resampling.

Keras' layers resample once each. Three in a row take three times as long, and blur three times.
"""

import math
from dataclasses import dataclass
from typing import Any

from tlcli import backbones

Range = tuple[float, float]


@dataclass(frozen=True)
class Extent:
    """How far images are moved, each drawn evenly from a range, with the meaning of Keras."""

    rotation: Range = (0.0, 0.0)
    """In turns, counter-clockwise."""
    shift: Range = (0.0, 0.0)
    """Down, and to the right: shares of the side, drawn for each of the two."""
    zoom: Range = (0.0, 0.0)
    """Below zero what is in the picture becomes larger."""
    stretches: bool = False
    """Whether height and width zoom apart."""


class Warp:
    """A random flip, and what an extent says, of each image of a batch."""

    def __init__(self, extent: Extent, seed: int) -> None:
        self.extent = extent
        self.generator = backbones.keras_module().random.SeedGenerator(seed)

    @property
    def variables(self) -> list[Any]:
        """The random state."""
        return [self.generator.state]

    def __call__(self, images: Any, training: bool) -> Any:
        """Images (n, S, S, 3) → images; called while a graph is built, or on arrays."""
        ops = backbones.keras_module().ops
        count, size = ops.shape(images)[0], images.shape[1]
        matrix = ops.stack(self._matrix(ops, count, size), axis=1)
        return ops.image.affine_transform(
            images, matrix, interpolation="bilinear", fill_mode="reflect"
        )

    def _matrix(self, ops: Any, count: Any, size: int) -> list[Any]:
        """Which place (x', y') of an image comes to (x, y), as rows a0 … c1 of (n,) each."""
        extent, middle = self.extent, (size - 1) / 2
        mirror = ops.where(self._drawn(count, (0.0, 1.0)) < 0.5, -1.0, 1.0)
        angle = 2 * math.pi * self._drawn(count, extent.rotation)
        right, down = (size * self._drawn(count, extent.shift) for _ in range(2))
        high = wide = 1 + self._drawn(count, extent.zoom)
        if extent.stretches:
            wide = 1 + self._drawn(count, extent.zoom)
        cos, sin = ops.cos(angle), ops.sin(angle)
        rows = (mirror * wide * cos, -mirror * high * sin), (wide * sin, high * cos)
        (a0, a1), (b0, b1) = rows
        a2 = middle - (a0 + a1) * middle - a0 * right - a1 * down
        b2 = middle - (b0 + b1) * middle - b0 * right - b1 * down
        return [a0, a1, a2, b0, b1, b2, ops.zeros_like(a0), ops.zeros_like(a0)]

    def _drawn(self, count: Any, between: Range) -> Any:
        random = backbones.keras_module().random
        return random.uniform((count,), *between, seed=self.generator)
