"""Classes as Gaussians with one covariance, from moments: the ground of LDA and its relatives.

Symbols: n images, D feature width, C classes, n_c and s_c the count and the sum of class c,
μ_c = s_c/n_c its mean, G the Gram matrix of all images.
Everything is a function of the moments alone, in an order of operations that is fixed.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tlcli import linalg, moments
from tlcli.config import AUTO
from tlcli.errors import UsageError
from tlcli.moments import Moments

Float64 = NDArray[np.float64]

_NO_VARIATION = 1e-9
"""A within-class variance below this share of the mean square is rounding, not variation."""

_EPSILON = float(np.finfo(np.float64).eps)


def means(total: Moments) -> Float64:
    """μ (C, D) in feature units."""
    return np.asarray(total.sums * (2.0**-total.bits / total.counts[:, None]), np.float64)


def mean(total: Moments) -> Float64:
    """The mean m (D,) of all images, in feature units."""
    return np.asarray(total.sums.sum(axis=0) * (2.0**-total.bits / total.images), np.float64)


def gram(total: Moments) -> Float64:
    """G (D, D) in feature units."""
    return np.asarray(total.gram * 4.0**-total.bits, np.float64)


def covariance(total: Moments) -> Float64:
    """S (D, D), that within the classes: (G − Σ_c s_c s_cᵀ/n_c)/n."""
    scaled = means(total) * np.sqrt(total.counts)[:, None]
    found = gram(total)
    found -= linalg.times(scaled.T, scaled)
    found /= total.images
    return found


def shrunken_covariance(total: Moments, shrinkage: str) -> Float64:
    """Σ = (1−ε)S + ε(tr S/D)I, (D, D); the identity where S is nothing but rounding.

    Args:
        total: of all images.
        shrinkage: ε. `auto` is D/(D+n); `oas` see `oas`; or a number from 0 to 1 as text.
    """
    found = covariance(total)
    mean_variance = float(np.trace(found)) / total.dimensions
    if mean_variance <= _NO_VARIATION * mean_square(total):
        return np.eye(total.width)
    amount = _amount(shrinkage, found, total)
    found *= 1 - amount
    found[np.diag_indices(total.width)] += amount * mean_variance
    return found


def require_shrinkage(value: str) -> None:
    """Raise UsageError unless `value` is `auto`, `oas` or a number from 0 to 1."""
    if value in (AUTO, "oas"):
        return
    try:
        amount = float(value)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= 1:
        raise UsageError(
            f"Expected shrinkage: auto, oas, or a number from 0 to 1. "
            f"Received: shrinkage={value!r}. Leave --shrinkage out."
        )


def usual_shrinkage(width: int, images: int) -> float:
    """D/(D+n)."""
    return width / (width + images)


def _amount(shrinkage: str, covariance: Float64, total: Moments) -> float:
    """ε, from 0 to 1."""
    if shrinkage == AUTO:
        return usual_shrinkage(total.dimensions, total.images)
    if shrinkage == "oas":
        return oas(covariance, total.images, total.dimensions)
    return float(shrinkage)


def oas(covariance: Float64, images: int, width: int) -> float:
    """How much to shrink a covariance S of D features, from 0 to 1, if they are Gaussian.

    (a + v²)/((n+1)(a − v²/D)) with v = tr S/D and a = tr S²/D², at most 1.

    Source: Chen, Wiesel, Eldar & Hero 2010, "Shrinkage Algorithms for MMSE Covariance
    Estimation", equation 23 for large D, as in scikit-learn.
    """
    mean_variance = float(np.trace(covariance)) / width
    square = float((covariance**2).sum()) / width**2
    spread = (images + 1) * (square - mean_variance**2 / width)
    return 1.0 if spread <= 0 else min((square + mean_variance**2) / spread, 1.0)


def made_positive(matrix: Float64) -> Float64:
    """Σ (D, D) with eigenvalues of at least a thousandth of their mean.

    Moments from which estimates were taken away may have directions of negative variance.
    """
    values, vectors = np.linalg.eigh(matrix)
    least = 1e-3 * max(float(values.mean()), float(np.abs(values).max()) * 1e-3)
    return np.asarray((vectors * np.maximum(values, least)) @ vectors.T, np.float64)


def mean_square(total: Moments) -> float:
    """Of one feature of one image, in feature units: the scale of what sums may lose."""
    trace = float(np.trace(total.gram, dtype=np.float64))
    return trace * 4.0**-total.bits / (total.dimensions * total.images)


def rounding(total: Moments) -> float:
    """An eigenvalue of a covariance (D, D) that is no more than rounding."""
    return 10 * _EPSILON * total.dimensions * mean_square(total)


def solve(matrix: Float64, right: Float64, least: float) -> Float64 | None:
    """matrix⁻¹ right (D, C) by Cholesky; None where an eigenvalue does not exceed `least`.

    The smallest eigenvalue of the symmetric `matrix` (D, D) is put at 1/‖matrix⁻¹‖₁.
    """
    from scipy.linalg import lapack

    factor = linalg.cholesky(matrix)
    if factor is None or lapack.dpocon(factor.T, anorm=1.0, uplo="U")[0] <= least:
        return None
    return linalg.solve(factor, right)


def solved(total: Moments, right: Float64, shrinkage: str = AUTO) -> Float64 | None:
    """Σ⁻¹ right (D, C) for the shrunken covariance Σ; None where it has no inverse.

    With `auto` it has one: moments from which estimates were taken away are made positive first.

    Args:
        total: of all images.
        right: (D, C)
        shrinkage: see `shrunken_covariance`.
    """
    found, least = shrunken_covariance(total, shrinkage), rounding(total)
    weights = solve(found, right, least)
    if weights is None and shrinkage == AUTO:
        weights = solve(made_positive(found), right, least)
    return weights


def whitening(total: Moments) -> Float64 | None:
    """L⁻¹ (D, D) of the shrunken covariance Σ = L Lᵀ; None where it has no inverse."""
    factor = linalg.cholesky(shrunken_covariance(total, AUTO))
    return None if factor is None else linalg.inverse(factor)


def without_unknown(total: Moments, missing: Mapping[str, int]) -> Moments:
    """The moments less an estimate of what images of unknown features added to them.

    k of n_c images of a class are taken to have its mean μ_c and the covariance S that all classes
    share: s_c loses kμ_c, and the Gram matrix k(S + μ_c μ_cᵀ).

    Args:
        total: of all images.
        missing: class → how many of its images are to go.
    """
    gone = np.array([missing.get(name, 0) for name in total.classes], np.int64)
    unit = 2.0**-total.bits
    centres = means(total) / unit
    products = linalg.times((centres * gone[:, None]).T, centres)
    sums = np.where(gone[:, None] == total.counts[:, None], total.sums, centres * gone[:, None])
    removed = Moments(
        total.fingerprint,
        total.bits,
        total.classes,
        gone,
        np.rint(sums).astype(np.int64),
        np.rint(gone.sum() * covariance(total) / unit**2 + products).astype(np.int64),
    )
    return moments.subtract(total, removed)
