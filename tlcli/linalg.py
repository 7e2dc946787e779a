"""Linear algebra that gives the same bits on every processor, BLAS and number of threads.

A BLAS adds the terms of a product in an order of its own: another kernel, another size of block or
another place in it gives other last bits. Sums of integers below 2^53 have no last bits to lose in
float64, so matrices are cut into slices of few bits whose products are exact, and the rest is done
in an order that stands here. NumPy's element-wise arithmetic is IEEE 754's everywhere.

Source: Ozaki, Ogita, Oishi & Rump 2012, "Error-free transformations of matrix multiplication by
using fast routines of matrix multiplication and its applications".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

MANTISSA = 53
"""Bits of a float64: integers below 2^53 are exact."""

SLICES = 3
"""Of a factor: with 1280 columns 63 bits, more than a float64 has."""

_LEAST_EXPONENT = -900
"""Rows that are smaller than 2^-900 count as zero: their scale has no inverse."""

BLOCK = 128
"""Columns that are eliminated at once."""

_Inverses = Sequence[tuple[slice, Float64]]
"""A block on the diagonal of a triangular matrix, and its inverse."""


@dataclass(frozen=True, eq=False)
class Sliced:
    """A matrix (n, k) as a sum of integer slices, the first of which is the coarsest.

    Row i is scale_i · Σ_p slice_p[i] · 2^(−p·bits), but for what is smaller than half a unit of
    the last slice. A row depends on nothing but itself.
    """

    slices: tuple[Float64, ...]
    """Each (n, k), of integers no larger than 2^bits."""
    scale: Float64
    """(n, 1) powers of two."""
    bits: int


def sliced(matrix: Float32 | Float64, count: int = SLICES) -> Sliced:
    """Cut a matrix (n, k) by rows into slices with which products over k are exact."""
    bits = slice_bits(matrix.shape[1])
    largest = np.abs(matrix).max(axis=1, keepdims=True, initial=0.0).astype(np.float64)
    exponents = np.maximum(np.frexp(largest)[1], _LEAST_EXPONENT) - bits
    rest = np.multiply(matrix, np.ldexp(1.0, -exponents), dtype=np.float64)
    slices = [np.rint(rest)]
    while len(slices) < count:
        rest -= slices[-1]
        rest *= 2.0**bits
        slices.append(np.rint(rest))
    return Sliced(tuple(slices), np.ldexp(1.0, exponents), bits)


def slice_bits(terms: int) -> int:
    """How many bits two factors may have so that a sum of so many products is exact."""
    return (MANTISSA - max(terms - 1, 0).bit_length()) // 2


def product(left: Sliced, right: Sliced) -> Float64:
    """The product left · rightᵀ (n, m) of matrices (n, k) and (m, k), cut into as many slices.

    Entry (i, j) depends on row i of the one and row j of the other alone, bit for bit. With
    `SLICES` it is as good as a sum in float64, with one slice as one in float32.
    """
    last = len(left.slices) - 1
    total = _of_order(last, left, right)
    for order in reversed(range(last)):
        total *= 2.0**-left.bits
        total += _of_order(order, left, right)
    total *= left.scale
    total *= right.scale.T
    return total


def _of_order(order: int, left: Sliced, right: Sliced) -> Float64:
    """Σ_p left.slices[p] · right.slices[order − p]ᵀ, products that are exact."""
    total = left.slices[0] @ right.slices[order].T
    for p in range(1, order + 1):
        total += left.slices[p] @ right.slices[order - p].T
    return np.asarray(total)


def times(left: Float64, right: Float64) -> Float64:
    """The product left · right (n, m) of matrices (n, k) and (k, m)."""
    return product(sliced(left), sliced(right.T))


def cholesky(matrix: Float64) -> Float64 | None:
    """L (D, D), lower triangular, with matrix = L Lᵀ; None where it is not positive definite.

    Args:
        matrix: (D, D), of which the lower triangle is read.
    """
    factor = np.zeros_like(matrix)
    for block in _blocks(len(matrix)):
        column = matrix[block.start :, block].copy()
        if block.start:
            column -= times(factor[block.start :, : block.start], factor[block, : block.start].T)
        width = column.shape[1]
        corner = _small_cholesky(column[:width])
        if corner is None:
            return None
        factor[block, block] = corner
        if len(column) > width:
            factor[block.stop :, block] = times(column[width:], _inverse(corner).T)
    return factor


def solve(factor: Float64, right: Float64) -> Float64:
    """X (D, C) with L Lᵀ X = right (D, C), for a factor L (D, D) of `cholesky`."""
    inverses = _inverses(factor)
    return _backward(factor, _forward(factor, right, inverses), inverses)


def solve_transposed(factor: Float64, right: Float64) -> Float64:
    """X (D, C) with Lᵀ X = right (D, C), for a factor L (D, D) of `cholesky`."""
    return _backward(factor, right.astype(np.float64), _inverses(factor))


def inverse(factor: Float64) -> Float64:
    """L⁻¹ (D, D) of a factor L of `cholesky`."""
    return _forward(factor, np.eye(len(factor)), _inverses(factor))


def _inverses(factor: Float64) -> _Inverses:
    """The inverse of each block on the diagonal of L."""
    return [(block, _inverse(factor[block, block])) for block in _blocks(len(factor))]


def _backward(factor: Float64, found: Float64, inverses: _Inverses) -> Float64:
    """X (D, C) with Lᵀ X = found, in its place."""
    for block, inverse in reversed(inverses):
        if block.stop < len(factor):
            found[block] -= times(factor[block.stop :, block].T, found[block.stop :])
        found[block] = times(inverse.T, found[block])
    return found


def _forward(factor: Float64, right: Float64, inverses: _Inverses) -> Float64:
    """X (D, C) with L X = right, given the inverse of each block on the diagonal of L."""
    found = right.astype(np.float64)
    for block, inverse in inverses:
        if block.start:
            found[block] -= times(factor[block, : block.start], found[: block.start])
        found[block] = times(inverse, found[block])
    return found


def _blocks(width: int) -> Iterator[slice]:
    for start in range(0, width, BLOCK):
        yield slice(start, min(start + BLOCK, width))


def _small_cholesky(matrix: Float64) -> Float64 | None:
    """As `cholesky`, a column after the other; an order that is fixed because it stands here."""
    rest, factor = matrix.copy(), np.zeros_like(matrix)
    for j in range(len(rest)):
        pivot = rest[j, j]
        if not pivot > 0:
            return None
        factor[j:, j] = rest[j:, j] / np.sqrt(pivot)
        below = factor[j + 1 :, j]
        rest[j + 1 :, j + 1 :] -= below[:, None] * below
    return factor


def _inverse(factor: Float64) -> Float64:
    """L⁻¹ of a small lower triangular L."""
    inverse = np.eye(len(factor))
    for j in range(len(factor)):
        inverse[j] /= factor[j, j]
        inverse[j + 1 :] -= factor[j + 1 :, j, None] * inverse[j]
    return inverse


def row_sums(matrix: Float64) -> Float64:
    """(n,) the sum of each row (n, k), its entries added from the first to the last."""
    total = np.zeros(len(matrix))
    for column in matrix.T:
        total += column
    return total


def rounded(values: Float64 | np.float64, bits: int) -> Float64:
    """Values with so many significant bits.

    What processors compute a little differently is the same afterwards, unless it happens to lie in
    the middle between two of them.
    """
    parts, exponents = np.frexp(values)
    return np.asarray(np.ldexp(np.rint(np.ldexp(parts, bits)), exponents - bits))
