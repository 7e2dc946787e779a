"""Which images belong together, where no class is known for them."""

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

MOST = 10_000
"""Images that are grouped at once: what is compared grows with the square of their number."""


def clusters(descriptors: Float32, least_similarity: float) -> NDArray[np.intp]:
    """(n,) the number of each image's group, 0 for the largest.

    Agglomerative, with average linkage on cosine distances: two groups become one while their
    images are, on average, at least so similar.

    Args:
        descriptors: (n, M) of length 1, n ≥ 1.
        least_similarity: from -1 to 1.
    """
    from sklearn.cluster import AgglomerativeClustering

    if len(descriptors) == 1:
        return np.zeros(1, np.intp)
    distances = np.maximum(1 - descriptors.astype(np.float64) @ descriptors.T, 0.0)
    found = AgglomerativeClustering(
        n_clusters=None,
        metric="precomputed",
        linkage="average",
        distance_threshold=1 - least_similarity,
    ).fit_predict(distances)
    sizes = np.bincount(found)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return np.asarray(rank[found], np.intp)


def separating_similarity(descriptors: Float32, labels: tuple[str, ...]) -> float:
    """Halfway between images of one class and those of different ones, by their mean products.

    Args:
        descriptors: (n, M) of length 1.
        labels: (n,) class names; at least one class with two images, and two classes.
    """
    names, columns = np.unique(np.array(labels), return_inverse=True)
    sums = np.zeros((len(names), descriptors.shape[1]))
    np.add.at(sums, columns, descriptors)
    counts = np.bincount(columns)
    pairs = counts * (counts - 1)
    within = ((sums**2).sum(axis=1) - counts).sum() / max(pairs.sum(), 1)
    total = (sums.sum(axis=0) ** 2).sum() - (sums**2).sum()
    between = total / max(len(labels) ** 2 - (counts**2).sum(), 1)
    return float((within + between) / 2)
