"""The minimum of a smooth convex loss by L-BFGS: watched, stopped within a second, bounded in cost.

Symbols: n images, D feature width, C classes.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike

from tlcli.config import Progress, no_progress
from tlcli.heads.linear import Float64

log = logging.getLogger(__name__)

LARGE = 10**9
"""n·D·C of a problem from which on products are computed in single precision, which takes half the
time, and nothing is solved only to be compared."""

_BLOCK = 10**9
"""n·D·C of one matrix product, which no signal can cut: about a tenth of a second."""

_MOST_SECONDS = 60
"""A solution that is thought to take longer is announced."""

_TIMED = 3
"""The step after which it is known how long one takes."""

_HELD_OUT = 6
"""How often a head is solved in all, where it is tested by folds."""

Loss = Callable[[Float64], tuple[float, Float64]]
"""The loss at a point, and its gradient."""


@dataclass(frozen=True)
class Size:
    """How large a problem is."""

    images: int
    width: int
    classes: int

    @property
    def products(self) -> int:
        """Multiplications of one matrix product."""
        return self.images * self.width * self.classes

    @property
    def large(self) -> bool:
        """See `LARGE`."""
        return self.products >= LARGE

    @property
    def dtype(self) -> DTypeLike:
        """Of the matrices that are multiplied."""
        return np.float32 if self.large else np.float64

    def blocks(self) -> Iterator[slice]:
        """Images whose products are computed at once."""
        step = max(_BLOCK // max(self.width * self.classes, 1), 1)
        for top in range(0, self.images, step):
            yield slice(top, top + step)


@dataclass(frozen=True)
class Solver:
    """What is solved, for messages."""

    name: str
    steps: int
    """Evaluations of the loss that a solution usually takes, over all that are compared."""


@dataclass
class Watch:
    """Who is told how far a solver is, and what has been said."""

    progress: Progress = no_progress
    """Told the phase "solving a head"."""
    said: set[str] = field(default_factory=set)
    """Subjects of warnings that came once already."""

    def warn_once(self, subject: str, message: str) -> None:
        """Log a warning, unless one on this subject has been logged."""
        if subject not in self.said:
            self.said.add(subject)
            log.warning("%s", message)


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


def watch() -> Watch:
    """Who is told here."""
    return _watch.get() or Watch()


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Tell of the solvers within the block."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def minimum(
    loss_and_gradient: Loss, start: Float64, size: Size, solver: Solver, tolerance: float = 1e-5
) -> Float64:
    """Where a loss is smallest.

    Args:
        loss_and_gradient: of a flat point.
        start: flat.
        size: of the problem.
        solver: that asks.
        tolerance: of the largest entry of the gradient.
    """
    from scipy import optimize

    told_to = watch()
    begun, done = time.monotonic(), 0

    def told(point: Float64) -> tuple[float, Float64]:
        nonlocal done, begun
        answer = loss_and_gradient(point)
        done += 1
        if done == 1:  # it takes longer than the others
            begun = time.monotonic()
        if done == _TIMED:
            _announce(told_to, size, solver, (time.monotonic() - begun) / (_TIMED - 1))
        told_to.progress("solving a head", done, 0)
        return answer

    options = {"maxiter": 500, "gtol": tolerance, "ftol": 1e-12}
    found = optimize.minimize(told, start, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x)


def _announce(told_to: Watch, size: Size, solver: Solver, step_seconds: float) -> None:
    """Say how long it will take, where that is long."""
    seconds = step_seconds * solver.steps
    if seconds * _HELD_OUT < _MOST_SECONDS:
        return
    told_to.warn_once(
        "seconds",
        f"the head {solver.name} of {size.classes} classes takes about {_duration(seconds)} here, "
        f"and up to {_duration(seconds * _HELD_OUT)} with its test on held-out images; "
        "--head lda takes seconds",
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.0f} hours"
