"""Images in coordinates of their span: as many numbers each as there are images, not features.

Symbols: n images, D feature width, X (n, D) their features, L (n, n) with L Lᵀ = X Xᵀ.
The rows of L have the products that the rows of X have, and heads from moments are a matter of
these products alone. With fewer images than features they are solved sooner from L.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tlcli import linalg, moments
from tlcli.features import Examples, Vectors
from tlcli.heads.linear import Float64, LinearHead
from tlcli.moments import Moments

_MOST = 0.9
"""Images, in widths of their features, of which coordinates are worth their making."""

_GRID_BITS = 20
"""Of the largest coordinate."""

_PRIVATE = 2.0**-38
"""Of the largest square: what is added to the square of every image, so that one that follows from
others has coordinates too. Its root is about a unit of the grid."""


@dataclass(frozen=True, eq=False)
class Span:
    """Images in coordinates of their span, and the way back."""

    coordinates: Examples
    """(n, n) L"""
    moments: Moments
    """Of the coordinates of those that are learned."""
    features: Float64
    """X"""
    factor: Float64
    """L"""

    @staticmethod
    def of(images: Examples, space: Moments) -> "Span | None":
        """Of the images that moments are of; None where others are in them, or it saves nothing."""
        count, width = images.vectors.shape
        if not 0 < count <= _MOST * width or count != space.images:
            return None
        grid, _ = moments.quantise(images.vectors[:], space.bits)
        if (grid.sum(axis=0) != space.sums.sum(axis=0)).any():
            return None
        products = (grid @ grid.T) * 4.0**-space.bits
        products[np.diag_indices(count)] += _PRIVATE * products.diagonal().max()
        factor = linalg.cholesky(products)
        if factor is None:
            return None
        rows = factor.astype(np.float32)
        coordinates = replace(images, vectors=Vectors.of(rows))
        bits = _GRID_BITS - int(np.frexp(np.abs(rows).max())[1])
        found = replace(_moments_of(coordinates, space.fingerprint, bits), of_width=width)
        return Span(coordinates, found, grid * 2.0**-space.bits, factor)

    def without(self, held: NDArray[np.bool_]) -> "Span":
        """With some of the images (n,) not learned."""
        known = self.moments
        gone = _moments_of(self.coordinates.where(held), known.fingerprint, known.bits)
        return replace(self, moments=moments.subtract(known, gone))

    def solved(self, solve: Callable[[Moments], LinearHead]) -> LinearHead:
        """A head from moments, for features: with weights w on coordinates W = Xᵀ L⁻ᵀ w."""
        head = solve(self.moments)
        shares = linalg.solve_transposed(self.factor, head.weights.astype(np.float64))
        weights = linalg.times(self.features.T, shares)
        return replace(head, weights=weights.astype(np.float32))


def _moments_of(part: Examples, fingerprint: str, bits: int) -> Moments:
    return moments.of(part.vectors, part.labels, fingerprint, bits, 2**_GRID_BITS)
