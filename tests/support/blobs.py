"""Feature vectors in Gaussian clouds, for tests of heads."""

import hashlib

import numpy as np

from tlcli import moments
from tlcli.features import Examples, Vectors
from tlcli.heads import LinearHead

BITS = 12


def blobs(count=120, width=8, classes="abc", spread=1.0, seed=0):
    """Features (n, D) on the grid of the moments, one Gaussian a class; and the labels."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1.5, (len(classes), width))
    index = np.arange(count) % len(classes)
    noise = rng.normal(0, spread, (count, width)) @ rng.normal(0, 1, (width, width)) / 2
    features = np.rint((centres[index] + noise) * 2**BITS) / 2**BITS
    return features.astype(np.float32), [classes[i] for i in index]


def moments_of(features, labels):
    """The moments of an imagined backbone; no feature lies beyond the grid."""
    found = moments.of(features, list(labels), "backbone-a", BITS)
    assert found.saturated == 0
    return found


def examples_of(features, labels):
    """The same as examples, each image with the hash of its features."""
    hashes = tuple(hashlib.sha256(row.tobytes()).hexdigest() for row in features)
    return Examples(hashes, tuple(labels), Vectors.of(features))


def random_head(width=6, columns=5, seed=0):
    """A head that was not solved from anything."""
    rng = np.random.default_rng(seed)
    return LinearHead(
        tuple(f"class {i}" for i in range(columns)),
        rng.normal(0, 1, (width, columns)).astype(np.float32),
        rng.normal(0, 1, columns).astype(np.float32),
    )


def assert_same_bits(a, b):
    """Compare two heads."""
    assert a.classes == b.classes
    assert a.weights.dtype == b.weights.dtype == np.float32
    assert a.weights.tobytes() == b.weights.tobytes()
    assert a.bias.tobytes() == b.bias.tobytes()
