"""What becomes of moments when the backbone has moved and the images are gone.

Linear drift compensation: the features of images that both backbones have seen tell a linear map
from the old space to the new one, and the moments of the others are sent through it (LDC,
Gomez-Villa et al., Exemplar-free continual representation learning via learnable drift
compensation, ECCV 2024). An estimate: what it touches is no longer exact.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tlcli.features import Examples, Vectors
from tlcli.moments import Moments

Float64 = NDArray[np.float64]

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Candidates for ρ, in units of the mean square of a feature times the number of images."""
CAUTIOUS = 1.0
"""The one that is taken where too few images tell."""
LEAST_TESTED = 5
"""Held-out images without which R² would say nothing."""


@dataclass(frozen=True, eq=False)
class Drift:
    """The map from old features (n, D) to new ones, and how well it predicts."""

    matrix: Float64
    """P (D, D): old features times P are about the new ones."""
    r2: float | None
    """Coefficient of determination on images that the map was not fitted on: 1 is perfect, 0 no
    better than the mean of the others. None where too few were held out."""
    images: int
    """That both backbones have seen."""

    def vectors(self, old: Examples) -> Examples:
        """Features of the old backbone as the new one would about give them."""
        moved = old.vectors[:].astype(np.float64) @ self.matrix
        return replace(old, vectors=Vectors.of(moved.astype(np.float32)))

    def moments(self, old: Moments, fingerprint: str, bits: int) -> Moments:
        """Moments of the old backbone as those of the new one: s ← sP, G ← PᵀGP, rounded."""
        scale = 2.0 ** (bits - old.bits)
        sums = old.sums.astype(np.float64) @ self.matrix * scale
        gram = self.matrix.T @ old.gram.astype(np.float64) @ self.matrix * scale**2
        return Moments(
            fingerprint,
            bits,
            old.classes,
            old.counts,
            np.rint(sums).astype(np.int64),
            np.rint((gram + gram.T) / 2).astype(np.int64),
        )


def fit(old: NDArray[np.float32], new: NDArray[np.float32], held_out: NDArray[np.bool_]) -> Drift:
    """The map that takes old features to new ones.

    P = I + (ZₒᵀZₒ + ρI)⁻¹ Zₒᵀ(Zₙ − Zₒ): directions in which the images at hand do not vary stay as
    they are, where the published form without the identity would erase them. ρ is the candidate
    with the largest R² on the held-out images; the map is then fitted on all.

    Args:
        old: (n, D) features of the old backbone.
        new: (n, D) features of the same images of the new one.
        held_out: (n,) images that R² is measured on.
    """
    before, after = old.astype(np.float64), new.astype(np.float64)
    if held_out.sum() < LEAST_TESTED or held_out.all():
        return Drift(_solved(before, after, CAUTIOUS), None, len(old))
    found = []
    for ridge in RIDGES:
        matrix = _solved(before[~held_out], after[~held_out], ridge)
        usual = after[~held_out].mean(axis=0)
        found.append((_r2(before[held_out] @ matrix, after[held_out], usual), ridge))
    r2, ridge = max(found)
    return Drift(_solved(before, after, ridge), r2, len(old))


def _solved(before: Float64, after: Float64, ridge: float) -> Float64:
    width = before.shape[1]
    gram = before.T @ before
    gram[np.diag_indices(width)] += ridge * max(float(np.trace(gram)) / width, 1e-12)
    return np.eye(width) + np.linalg.solve(gram, before.T @ (after - before))


def _r2(predicted: Float64, true: Float64, usual: Float64) -> float:
    spread = float(((true - usual) ** 2).sum())
    return 1 - float(((predicted - true) ** 2).sum()) / spread if spread else 1.0
