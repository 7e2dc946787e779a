"""What one head says of n test images, and the figures that are counted from it.

Every figure takes weights: how often each image counts. Once each is the measurement, as often as
an image was drawn is one resample of the bootstrap.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlcli.heads import Classifier, reliability
from tlcli.moments import Rows

TOP = 5
_CHUNK = 4096
"""Images whose probabilities are in memory at once."""
_UNKNOWN = -1
"""The column of a class that a head does not know."""

Float64 = NDArray[np.float64]
Columns = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """One head's answers, image by image; columns count the classes of the head."""

    classes: tuple[str, ...]
    true: Columns
    """(n,) the column of the true class."""
    predicted: Columns
    """(n,) the column of the most probable class."""
    confidence: Float64
    """(n,) its probability."""
    given: Float64
    """(n,) the probability of the true class."""
    in_top: Mask
    """(n,) whether the true class is among the five most probable."""

    @staticmethod
    def of(head: Classifier, vectors: Rows, labels: Sequence[str]) -> "Outcomes":
        """Ask a head about images; those of classes that it does not know are left out.

        Args:
            head: answers.
            vectors: (N, D) of N ≥ n images.
            labels: N class names.
        """
        column = {name: index for index, name in enumerate(head.classes)}
        true = np.array([column.get(label, _UNKNOWN) for label in labels], np.intp)
        chunks = [slice(top, top + _CHUNK) for top in range(0, max(len(true), 1), _CHUNK)]
        parts = [_answers(head, vectors[chunk], true[chunk]) for chunk in chunks]
        return Outcomes(
            head.classes,
            np.concatenate([part.true for part in parts]),
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.confidence for part in parts]),
            np.concatenate([part.given for part in parts]),
            np.concatenate([part.in_top for part in parts]),
        )

    @property
    def correct(self) -> Mask:
        """(n,) whether the answer is right."""
        return np.equal(self.predicted, self.true)

    def __len__(self) -> int:
        return len(self.true)

    def of_classes(self, names: Collection[str]) -> Mask:
        """(n,) whether the true class is one of `names`."""
        return np.isin(self.true, [self.classes.index(name) for name in names])


def _answers(head: Classifier, vectors: NDArray[np.float32], true: Columns) -> Outcomes:
    known = true != _UNKNOWN
    logits, true = head.logits(vectors)[known], true[known]
    probabilities = head.softmax(logits)
    # Probabilities may be equal where logits are not: the answer is that of `LinearHead.predict`.
    predicted = logits.argmax(axis=1)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    return Outcomes(
        head.classes,
        true,
        predicted,
        probabilities.max(axis=1),
        probabilities[np.arange(len(true)), true],
        (best == true[:, None]).any(axis=1),
    )


@dataclass(frozen=True)
class Figures:
    """How good the answers are; None where no image speaks of it."""

    accuracy: float
    mean_class_accuracy: float
    """Mean over the classes that the test holds."""
    top5_accuracy: float
    old_accuracy: float | None
    """On classes that were introduced before the last introduction."""
    new_accuracy: float | None
    ece: float
    """Expected calibration error, see `heads.expected_calibration_error`."""
    log_loss: float
    """Mean of −ln(probability of the true class)."""


def figures(outcomes: Outcomes, old: Mask, weights: Float64 | None = None) -> Figures:
    """Count the figures of n ≥ 1 images.

    Args:
        outcomes: of the images.
        old: (n,) whether the image is of an old class.
        weights: (n,) how often each image counts. None: once.
    """
    counted = np.ones(len(outcomes)) if weights is None else weights
    correct = outcomes.correct
    logs = -np.log(np.maximum(outcomes.given, np.finfo(np.float64).tiny))
    return Figures(
        accuracy=_share(correct, counted),
        mean_class_accuracy=_mean_of_classes(outcomes, counted),
        top5_accuracy=_share(outcomes.in_top, counted),
        old_accuracy=_share(correct, counted * old) if counted[old].any() else None,
        new_accuracy=_share(correct, counted * ~old) if counted[~old].any() else None,
        ece=_calibration_error(outcomes, counted),
        log_loss=float((logs * counted).sum() / counted.sum()),
    )


def _share(which: Mask, weights: Float64) -> float:
    return float(which @ weights / weights.sum())


def _mean_of_classes(outcomes: Outcomes, weights: Float64) -> float:
    images = np.bincount(outcomes.true, weights)
    right = np.bincount(outcomes.true, weights * outcomes.correct)
    here = images > 0
    return float((right[here] / images[here]).mean())


def _calibration_error(outcomes: Outcomes, weights: Float64) -> float:
    _, confidence, correct = reliability(outcomes.confidence, outcomes.correct, weights)
    return float(np.abs(correct - confidence).sum() / weights.sum())
