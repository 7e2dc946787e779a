"""How little an image is like every known class, from moments.

Symbols: n images, D feature width, C classes, n_c images of class c, μ_c its mean, μ_0 the mean of
all images, Σ the shrunken covariance within the classes, d(x, m) = (x − m)ᵀ Σ⁻¹ (x − m).

Two parts, both without a unit, so that an image is not known for lying far out in the direction of
a class:

- 1 − max_c cos(x, μ_c): how far x points away from every class;
- min_c d(x, μ_c) / d(x, μ_0): how much nearer it is to a class than to no class in particular, the
  relative Mahalanobis distance of Ren et al. 2021, "A Simple Fix to Mahalanobis Distance for
  Improving Near-OOD Detection", as a quotient and with one covariance.

Their sum, each divided by its spread over known images, told more than either, and than the
difference of that paper (docs/decisions/0011-novelty.md).
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tlcli import gaussian
from tlcli.errors import DataError
from tlcli.gaussian import Float64
from tlcli.moments import Moments

Float32 = NDArray[np.float32]

_LEAST = 1e-9
"""Of 1 − f·d: an image that Σ hangs on alone is as far as can be told."""


@dataclass(frozen=True, eq=False)
class Novelty:
    """The known classes, in a space where d is the ordinary squared distance: L⁻¹x for Σ = LLᵀ."""

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    """(C,)"""
    share: float
    """What one image adds to Σ: (1 − ε)/n of its outer product."""
    inverse: Float64
    """L⁻¹ (D, D)"""
    centres: Float64
    """L⁻¹μ (C + 1, D) of the classes and, last, of all images."""
    means: Float64
    """μ (C, D)"""

    @property
    def directions(self) -> Float64:
        """μ_c/‖μ_c‖ (C, D)."""
        return np.asarray(self.means / _lengths(self.means)[:, None])

    @staticmethod
    def of(total: Moments) -> "Novelty":
        """From the moments of all images that are known.

        Raises:
            DataError: their features do not vary.
        """
        inverse = gaussian.whitening(total)
        if inverse is None:
            raise DataError(
                "Expected images that vary, for a distance from the known classes. Received: a "
                "covariance that has no inverse. Learn more images first."
            )
        means = gaussian.means(total)
        centres = np.vstack([means, total.counts @ means / total.images]) @ inverse.T
        share = (1 - gaussian.usual_shrinkage(total.width, total.images)) / total.images
        return Novelty(total.classes, total.counts, share, inverse, centres, means)

    def _placed(self, features: Float32) -> Float64:
        return np.asarray(features.astype(np.float64) @ self.inverse.T)

    def _squares(self, placed: Float64) -> Float64:
        """Of images in the space of the centres, d (n, C + 1)."""
        found = (placed**2).sum(axis=1)[:, None] - 2 * placed @ self.centres.T
        return np.asarray(np.maximum(found + (self.centres**2).sum(axis=1), 0.0))

    def parts(self, features: Float32) -> Float64:
        """Both parts (n, 2) of features (n, D)."""
        placed = self._placed(features)
        return _parts(features @ self.directions.T, features, self._squares(placed))

    def parts_without(self, features: Float32, labels: tuple[str, ...]) -> Float64:
        """Those of images that are known, each as if it had not been learned.

        With u = x − μ_c, g = n_c/(n_c − 1) and f = share·g, Σ loses f·uuᵀ, and by the formula of
        Sherman and Morrison d(x, m) grows by f(uᵀΣ⁻¹(x − m))²/(1 − f·d(x, μ_c)). μ_c moves away
        from x, to a distance of g·u, and μ_0 likewise. A class of x alone is gone.

        Args:
            features: (n, D)
            labels: the class of each.
        """
        column = {name: place for place, name in enumerate(self.classes)}
        own, rows = np.array([column[label] for label in labels], np.intp), np.arange(len(labels))
        placed, counts = self._placed(features), self.counts[own]
        squares = self._squares(placed)
        grown = counts / np.maximum(counts - 1, 1)
        part, away = self.share * grown, placed - self.centres[own]
        crossed = (away * placed).sum(axis=1)[:, None] - away @ self.centres.T
        left = np.maximum(1 - part * squares[rows, own], _LEAST)
        squares += (part / left)[:, None] * crossed**2
        squares[rows, own] *= grown**2
        images = int(self.counts.sum())
        squares[:, -1] *= (images / max(images - 1, 1)) ** 2
        products = features @ self.directions.T
        rest = counts[:, None] * self.means[own] - features
        products[rows, own] = (features * rest).sum(axis=1) / _lengths(rest)
        alone = counts == 1
        squares[rows[alone], own[alone]], products[rows[alone], own[alone]] = np.inf, -np.inf
        return _parts(products, features, squares)

    def nearest(self, features: Float32) -> list[str]:
        """The known class that is nearest to each image."""
        squares = self._squares(self._placed(features))[:, :-1]
        return [self.classes[column] for column in squares.argmin(axis=1)]


def _lengths(rows: Float64) -> Float64:
    """‖x‖ (n,), of 0 as of something that points nowhere."""
    return np.asarray(np.maximum(np.linalg.norm(rows, axis=1), _LEAST))


def _parts(products: Float64, features: Float32, squares: Float64) -> Float64:
    """(n, 2) from xᵀμ_c/‖μ_c‖ (n, C), x (n, D) and d (n, C + 1)."""
    angles = 1 - products.max(axis=1) / _lengths(features.astype(np.float64))
    nearness = squares[:, :-1].min(axis=1) / np.maximum(squares[:, -1], _LEAST)
    return np.stack([angles, nearness], axis=1)


def threshold(scores: Float64, false_alarms: float) -> float:
    """The score above which an image is novel, so that at most this share of known ones is.

    The ⌈(n + 1)(1 − α)⌉-th smallest of n scores of known images: a new image of a known class
    exceeds it with a probability of at most α (split conformal prediction, Vovk et al. 2005);
    infinite where n is too small for α.

    Args:
        scores: (n,) of known images that were not learned, or were left out.
        false_alarms: α, above 0 and below 1.
    """
    if not has_threshold(len(scores), false_alarms):
        return float("inf")
    return float(np.sort(scores)[_place(len(scores), false_alarms) - 1])


def has_threshold(count: int, false_alarms: float) -> bool:
    """Whether so many images of known classes are enough for a threshold at this rate."""
    return _place(count, false_alarms) <= count


def _place(count: int, false_alarms: float) -> int:
    """Which of so many scores, from the smallest on and counted from 1, is the threshold."""
    return ceil((count + 1) * (1 - false_alarms))
