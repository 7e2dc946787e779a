"""Feature vectors → descriptors of length 1, whose products are similarities from -1 to 1."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlcli import gaussian
from tlcli.errors import UsageError
from tlcli.features import LearnedProjection, unit_rows
from tlcli.moments import Moments

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Descriptor:
    """x → (x − m)A / ‖(x − m)A‖."""

    name: str
    """A row of `DESCRIPTORS`."""
    width: int
    """M, of a descriptor."""
    centre: Float32 | None = None
    """m (D,); None for 0."""
    matrix: Float32 | None = None
    """A (D, M); None for the identity."""

    def of(self, features: Float32) -> Float32:
        """Descriptors (n, M) of features (n, D); that of a vector without a direction is 0."""
        found = features.astype(np.float64)
        if self.centre is not None and self.matrix is not None:
            found = (found - self.centre) @ self.matrix
        return unit_rows(found).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Ground:
    """What descriptors can be made of."""

    width: int
    """D, of the features."""
    remembered: Moments | None
    """Of the features; None where the run keeps none, or those of something else."""
    learned: LearnedProjection | None

    @property
    def usual(self) -> str:
        """The row that is taken where none was asked for: the learned one has to be."""
        return "plain" if self.remembered is None else "whitened"


@dataclass(frozen=True)
class _Row:
    says: str
    """As the help of `--descriptor` has it."""
    make: Callable[[Ground], Descriptor]
    """Raises UsageError where it cannot be made."""


def _plain(ground: Ground) -> Descriptor:
    return Descriptor("plain", ground.width)


def _learned(ground: Ground) -> Descriptor:
    """Images of one class were made to be near each other.

    Raises:
        UsageError: the run has no learned projection.
    """
    if (found := ground.learned) is None:
        raise UsageError(
            "Expected a run with a learned projection for learned descriptors. Received: one "
            "without. Train it with `tlcli finetune --objective`, or choose another --descriptor."
        )
    return Descriptor("learned", found.width, found.centre, found.matrix)


def _whitened(ground: Ground) -> Descriptor:
    """Differences count by how rare they are within classes: ‖xA − yA‖ is Mahalanobis'.

    A = L⁻ᵀ for the Cholesky factor L of the shrunken covariance within the classes, m the mean of
    all images. Any other square root of Σ⁻¹, as Σ^-½, gives the same products.

    Raises:
        UsageError: the run keeps no moments of features.
    """
    width, remembered = ground.width, ground.remembered
    if remembered is None or remembered.width != width or remembered.images < 2:
        raise UsageError(
            "Expected a run that keeps the moments of its features for whitened descriptors. "
            "Received: one that does not. Add --descriptor plain."
        )
    inverse = gaussian.whitening(remembered)
    if inverse is None:
        raise UsageError(
            "Expected images that vary in every direction for whitened descriptors. Received: a "
            "covariance that has no inverse. Add --descriptor plain."
        )
    centre = gaussian.mean(remembered).astype(np.float32)
    return Descriptor("whitened", width, centre, inverse.T.astype(np.float32))


DESCRIPTORS = {
    "plain": _Row("the features as they are", _plain),
    "whitened": _Row("differences weighed by how rare they are within classes", _whitened),
    "learned": _Row("a projection that `tlcli finetune --objective` has trained", _learned),
}


def possible(ground: Ground) -> dict[str, Descriptor]:
    """All that can be made."""
    found = {}
    for name, row in DESCRIPTORS.items():
        with suppress(UsageError):
            found[name] = row.make(ground)
    return found
