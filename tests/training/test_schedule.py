"""Learning rates."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlcli.training import schedule


@given(st.integers(1, 5000), st.floats(1e-6, 1.0))
def test_the_rate_rises_to_its_peak_and_falls_to_nearly_nothing(steps: int, peak: float) -> None:
    rates = [schedule.rate_at(step, steps, peak) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(peak)
    assert all(a < b for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b for a, b in pairwise(rates[top:]))
    assert min(rates) > 0
    if steps > 100:
        assert top <= 0.06 * steps
        assert rates[-1] < 0.01 * peak


def test_the_search_ends_below_the_rate_at_which_the_loss_explodes() -> None:
    """Gradient descent on x²/2 diverges above a rate of 2."""
    state = {"x": 1.0}

    def loss_at(rate: float) -> float:
        loss = state["x"] ** 2 / 2
        state["x"] -= rate * 10 * state["x"]
        return loss

    found = schedule.search(loss_at)
    assert 0.002 < found < 0.2


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_the_search_survives_a_loss_that_is_not_finite(loss: float) -> None:
    losses = iter([1.0, 0.9, 0.8, loss])
    assert schedule.LOWEST <= schedule.search(lambda rate: next(losses)) < schedule.HIGHEST
