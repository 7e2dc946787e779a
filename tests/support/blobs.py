"""Feature vectors in Gaussian clouds, for tests of heads."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from tests.support.arrays import Floats
from tlcli import moments
from tlcli.features import Examples, Vectors
from tlcli.heads import LinearHead

BITS = 12


def blobs(
    count: int = 120,
    width: int = 8,
    classes: Sequence[str] = "abc",
    spread: float = 1.0,
    seed: int = 0,
) -> tuple[Floats, list[str]]:
    """Features (n, D) on the grid of the moments, one Gaussian a class; and the labels."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1.5, (len(classes), width))
    index = np.arange(count) % len(classes)
    noise = rng.normal(0, spread, (count, width)) @ rng.normal(0, 1, (width, width)) / 2
    features = np.rint((centres[index] + noise) * 2**BITS) / 2**BITS
    return features.astype(np.float32), [classes[i] for i in index.tolist()]


def moments_of(features: Floats, labels: Iterable[str]) -> moments.Moments:
    """The moments of an imagined backbone; no feature lies beyond the grid."""
    found = moments.of(features, list(labels), "backbone-a", BITS)
    assert found.saturated == 0
    return found


def examples_of(features: Floats, labels: Iterable[str]) -> Examples:
    """The same as examples, each image with the hash of its features."""
    hashes = tuple(hashlib.sha256(row.tobytes()).hexdigest() for row in features)
    return Examples(hashes, tuple(labels), Vectors.of(features))


def random_head(width: int = 6, columns: int = 5, seed: int = 0) -> LinearHead:
    """A head that was not solved from anything."""
    rng = np.random.default_rng(seed)
    return LinearHead(
        tuple(f"class {i}" for i in range(columns)),
        rng.normal(0, 1, (width, columns)).astype(np.float32),
        rng.normal(0, 1, columns).astype(np.float32),
    )


def assert_same_bits(a: LinearHead, b: LinearHead) -> None:
    """Compare two heads."""
    assert a.classes == b.classes
    assert a.weights.dtype == b.weights.dtype == np.float32
    assert a.weights.tobytes() == b.weights.tobytes()
    assert a.bias.tobytes() == b.bias.tobytes()
