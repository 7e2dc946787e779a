"""Images that every stored backbone is tried on, and what they say about its features."""

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.errors import UsageError

_FIXED_POINT_LIMIT = 2**16
_HEADROOM = 2.0
_FIXED_POINT_RANGE = (-16, 40)
_OF_LENGTH_ONE = 1e-4
_PROBE_BATCH_PIXELS = 2 * 224 * 224


def features_of(model: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Keras' features (n, D) of images, in small batches: what a large one took stays taken."""
    pixels = images.shape[0] * images.shape[1] * images.shape[2]
    count = min(len(images), math.ceil(pixels / _PROBE_BATCH_PIXELS))
    batches = np.array_split(images, count)
    features = [np.asarray(model(batch, training=False), np.float32) for batch in batches]
    return np.concatenate(features)


def fixed_point_bits(name: str, features: NDArray[np.float32]) -> int:
    """Return the b with which features are rounded to q = round(φ·2^b), |q| < 2^16.

    A function of the backbone alone: the largest b that leaves a factor of 2 to 4 between
    the largest feature of the probe images and the limit. Photographs reach about as high
    as the probe images (5.9 and 5.9 with EfficientNetLite0, 5.7 and 5.6 with MobileNetV2),
    and the spread of a feature over photographs is then 10 to 11 bits.

    Args:
        name: of the backbone, for the message.
        features: (n, D), those of the probe images.

    Raises:
        UsageError: the features are not finite, or all zero.
    """
    largest = _bound(features)
    if not math.isfinite(largest) or largest == 0.0:
        raise UsageError(
            f"Expected a backbone with finite features other than zero. Received: "
            f"largest={largest} for {name} on test images. Use other weights."
        )
    bits = math.floor(math.log2(_FIXED_POINT_LIMIT / (_HEADROOM * largest)))
    return int(np.clip(bits, *_FIXED_POINT_RANGE))


def _bound(features: NDArray[np.float32]) -> float:
    """The largest feature; 1 where all vectors have length 1, as photographs may reach it."""
    lengths = np.linalg.norm(features, axis=1)
    if np.abs(lengths - 1).max() < _OF_LENGTH_ONE:
        return 1.0
    return float(np.max(np.abs(features)))


def probe_images(size: int, count: int = 16) -> NDArray[np.uint8]:
    """Return (count, size, size, 3) images, the same everywhere and forever.

    In turn: colour noise enlarged from grids of 2 to 16 cells, gradients, and noise of
    single pixels. The noise comes from SHAKE-256, which no library version changes.
    """
    return np.stack([_probe_image(size, index) for index in range(count)])


def _probe_image(size: int, index: int) -> NDArray[np.uint8]:
    cells = (2, 4, 8, 16, 3, 6, 12, size)[index % 8]
    grid = _noise(cells, index)
    if index % 8 == 4:
        image = _gradient(grid[0, 0], grid[1, 1], size)
    else:
        image = _enlarged(_enlarged(grid, size, 0), size, 1)
    rounded: NDArray[np.uint8] = np.rint(image).astype(np.uint8)
    return rounded


def _gradient(
    first: NDArray[np.float64], last: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Return (size, size, 3) that goes from one colour to another, corner to corner."""
    along = np.linspace(0.0, 1.0, size)
    share = ((along[:, None] + along[None, :]) / 2)[..., None]
    return np.asarray(first * (1 - share) + last * share)


def _noise(cells: int, index: int) -> NDArray[np.float64]:
    stream = hashlib.shake_256(f"probe {index}".encode()).digest(cells * cells * 3)
    return np.frombuffer(stream, np.uint8).reshape(cells, cells, 3).astype(np.float64)


def _enlarged(grid: NDArray[np.float64], size: int, axis: int) -> NDArray[np.float64]:
    """Interpolate linearly along one axis, from corner to corner."""
    position = np.linspace(0.0, grid.shape[axis] - 1.0, size)
    lower = np.minimum(position.astype(np.int64), grid.shape[axis] - 2)
    shape = [-1 if dimension == axis else 1 for dimension in range(3)]
    share = (position - lower).reshape(shape)
    return np.asarray(grid.take(lower, axis) * (1 - share) + grid.take(lower + 1, axis) * share)
