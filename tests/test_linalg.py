"""Linear algebra with fixed bits: against exact fractions, NumPy, and digests of other machines.

scripts/check runs this file under several BLAS kernels, which stand in for other processors.
"""

import hashlib
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tlcli import linalg
from tlcli.linalg import Float64

pytestmark = pytest.mark.numerics


def integers(rows: int, columns: int, seed: int = 0) -> Float64:
    """A matrix whose bits are the same on every machine, its columns of different size."""
    random = np.random.RandomState(seed)
    scale = np.ldexp(1.0, random.randint(-30, 10, columns))
    return random.randint(-(2**40), 2**40, (rows, columns)).astype(np.float64) * scale


def positive(width: int) -> Float64:
    """A positive definite matrix, well conditioned."""
    half = np.random.RandomState(width).randint(-999, 999, (2 * width, width)) / 1000
    return linalg.times(half.T, half) + 0.5 * np.eye(width)


def digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_bits_are_those_of_other_machines() -> None:
    matrix = positive(200)
    factor = linalg.cholesky(matrix)
    assert factor is not None
    assert {
        "product": digest(linalg.times(integers(70, 300), integers(300, 50, 1))),
        "logits": digest(
            linalg.product(linalg.sliced(integers(70, 300), 1), linalg.sliced(integers(50, 300), 1))
        ),
        "cholesky": digest(factor),
        "solve": digest(linalg.solve(factor, integers(200, 30))),
    } == {
        "product": "a95842ca039d4dd2",
        "logits": "4d5ad1b7206ca15f",
        "cholesky": "c12f1eec635d91fe",
        "solve": "b3e9968d2d10c276",
    }


@pytest.mark.parametrize("terms", [1, 2, 3, 64, 1280, 2048, 5000])
def test_slices_are_small_enough_that_no_sum_is_rounded(terms: int) -> None:
    assert terms * 2 ** (2 * linalg.slice_bits(terms)) <= 2**linalg.MANTISSA
    assert terms * 2 ** (2 * linalg.slice_bits(terms) + 2) > 2**linalg.MANTISSA


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 5), st.integers(0, 99))
def test_a_product_is_the_exact_one_rounded(rows: int, terms: int, columns: int, seed: int) -> None:
    left, right = integers(rows, terms, seed), integers(terms, columns, seed + 1)
    received = linalg.times(left, right)
    for i in range(rows):
        for j in range(columns):
            pairs = zip(left[i].tolist(), right[:, j].tolist(), strict=True)
            exact = sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))
            most = np.abs(left[i]).max() * np.abs(right[:, j]).max() * terms
            assert abs(Fraction(float(received[i, j])) - exact) <= Fraction(float(most)) / 2**51


def test_a_product_of_one_slice_is_as_good_as_one_in_float32() -> None:
    left, right = (np.random.RandomState(n).normal(size=(40, 1280)) for n in (0, 1))
    exact = left @ right.T
    received = linalg.product(linalg.sliced(left, 1), linalg.sliced(right, 1))
    single = (left.astype(np.float32) @ right.astype(np.float32).T).astype(np.float64)
    assert np.abs(received - exact).max() < 5 * np.abs(single - exact).max()


@pytest.mark.parametrize("slices", [1, linalg.SLICES])
def test_an_entry_of_a_product_depends_on_its_row_and_its_column_alone(slices: int) -> None:
    left, right = integers(30, 90), integers(40, 90, 1)
    whole = linalg.product(linalg.sliced(left, slices), linalg.sliced(right, slices))
    for rows, columns in ((slice(3, 4), slice(7, 8)), (slice(29, None, -2), slice(5, 23))):
        part = linalg.product(
            linalg.sliced(left[rows], slices), linalg.sliced(right[columns], slices)
        )
        assert digest(whole[rows, columns]) == digest(part)


def test_rows_without_values_and_without_numbers_harm_no_other() -> None:
    left = np.ones((3, 5))
    left[1], left[2, 2] = 0, np.nan
    received = linalg.product(linalg.sliced(left), linalg.sliced(np.ones((2, 5))))
    np.testing.assert_array_equal(received, [[5, 5], [0, 0], [np.nan, np.nan]])
    assert linalg.times(np.zeros((0, 4)), np.zeros((4, 2))).shape == (0, 2)


@pytest.mark.parametrize("width", [1, 2, 127, 128, 129, 300])
def test_cholesky_and_solve_are_those_of_numpy(width: int) -> None:
    matrix, right = positive(width), integers(width, 3)
    factor = linalg.cholesky(np.tril(matrix))
    assert factor is not None
    np.testing.assert_allclose(factor, np.linalg.cholesky(matrix), rtol=1e-11, atol=1e-11)
    found = linalg.solve(factor, right)
    expected = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("place", [0, 5, 140])
def test_cholesky_says_that_a_matrix_is_not_positive_definite(place: int) -> None:
    matrix = np.eye(150)
    for value in (0.0, -1.0, np.nan):
        matrix[place, place] = value
        assert linalg.cholesky(matrix) is None


def test_rounding_keeps_the_significant_bits() -> None:
    values = np.array([0.0, 1.0, 1 + 2**-20, -3e-200, 1e200])
    received = linalg.rounded(values, 14)
    np.testing.assert_allclose(received, values, rtol=2**-14)
    assert received[2] == 1.0
    assert digest(linalg.rounded(received, 14)) == digest(received)
