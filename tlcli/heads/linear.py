"""What every head is: a linear softmax layer on feature vectors.

Symbols: n images, D feature width, C classes, φ a feature vector, W (D, C), b (C,), T temperature.
A head answers softmax((φᵀW + b)/T).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tlcli import files, linalg, strict
from tlcli.moments import Rows
from tlcli.strict.arrays import ArrayFile

FORMAT = 1

LARGEST = 1e25
"""Of a weight: the sums of such times features are numbers in float32."""

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_MOST_COMMON = 2.0
"""Length of what all columns have in common, to that of the longest of the rest."""

_BLOCK_ROWS = 512
"""Images whose logits are computed at once."""


class Classifier(Protocol):
    """Whatever answers about feature vectors: a head, or the neighbours of an image."""

    @property
    def classes(self) -> tuple[str, ...]:
        """C class names, in the order of the columns."""
        ...

    def logits(self, features: Rows) -> Float32:
        """(n, C) of features (n, D): the larger, the likelier."""
        ...

    def softmax(self, logits: Float32) -> Float64:
        """Class probabilities (n, C) of logits (n, C)."""
        ...


@dataclass(frozen=True, eq=False)
class Generic:
    """What the images of a head's classes look like on average."""

    mean: Float64
    """(D,) of their features."""
    images: int
    """How many it is the mean of."""
    lead: float
    """How far the highest logit of such an image is above the mean of its logits; 0 where there was
    no image to measure it on."""
    expected: int = 0
    """How many of the images were never seen: they stand for the mean that a network expects. The
    lead is then a guess, by images of classes that the head does not know."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A softmax layer on feature vectors, classes in the order of the run's registry."""

    classes: tuple[str, ...]
    weights: Float32
    """(D, C)"""
    bias: Float32
    """(C,)"""
    temperature: float = 1.0
    """T, by which logits are divided before they become probabilities."""
    generic: Generic | None = None
    """Of the images that it was solved from; None where nobody knows."""

    @staticmethod
    def without_classes(width: int) -> "LinearHead":
        """The head of a run that knows no class yet, for features of a width D."""
        return LinearHead((), np.zeros((width, 0), np.float32), np.zeros(0, np.float32))

    def logits(self, features: Rows) -> Float32:
        """Logits (n, C) of features (n, D), which are read a block at a time.

        A logit depends on its image and its column alone, bit for bit, on every processor: an
        image's features, and a column's weights, are rounded to 21 bits of the largest of them
        (for D from 1025 to 2048), so that their products are summed without an error.
        """
        result = np.empty((len(features), len(self.classes)), np.float32)
        for rows, logits in self._blocks(features):
            result[rows] = logits
        return result

    def probabilities(self, features: Rows) -> Float64:
        """Class probabilities (n, C) of features (n, D)."""
        return self.softmax(self.logits(features))

    def softmax(self, logits: Float32) -> Float64:
        """Class probabilities (n, C) of logits (n, C)."""
        return softmax(logits, self.temperature)

    def predict(self, features: Rows) -> NDArray[np.object_]:
        """The most probable class name (n,) for features (n, D)."""
        best = np.zeros(len(features), np.intp)
        for rows, logits in self._blocks(features):
            best[rows] = logits.argmax(axis=1)
        return np.asarray(np.array(self.classes, dtype=object)[best])

    def _blocks(self, features: Rows) -> Iterator[tuple[slice, Float32]]:
        """Yield the logits (k, C) of a slice of k rows after the other."""
        columns = linalg.sliced(self.weights.T, 1)
        for top in range(0, len(features), _BLOCK_ROWS):
            rows = slice(top, top + _BLOCK_ROWS)
            logits = linalg.product(linalg.sliced(features[rows], 1), columns)
            logits += self.bias
            yield rows, logits.astype(np.float32)

    def renamed(self, names: Mapping[str, str]) -> "LinearHead":
        """The same columns under other class names.

        Args:
            names: class → its new name; other classes keep theirs.
        """
        return replace(self, classes=tuple(names.get(name, name) for name in self.classes))

    def calibrated(self) -> "LinearHead":
        """The same probabilities from weights that need no temperature."""
        if self.temperature == 1.0:
            return self
        scale = np.float32(1 / self.temperature)
        return LinearHead(self.classes, self.weights * scale, self.bias * scale)

    def summable(self) -> "LinearHead":
        """The same probabilities from columns that lose few digits when float32 adds them up.

        A softmax does not see what all columns have in common. Among features that vary together,
        as the mean and the root mean square of one map, that may be many times the rest; where it
        is, it is taken away.
        """
        if not self.classes:
            return self
        common = self.weights.mean(axis=1, dtype=np.float64)
        rest = self.weights - common[:, None]
        if np.linalg.norm(common) <= _MOST_COMMON * np.linalg.norm(rest, axis=0).max():
            return self
        bias = self.bias - self.bias.mean(dtype=np.float64)
        return replace(
            self, weights=rest.astype(np.float32), bias=bias.astype(np.float32), generic=None
        )

    def ordered(self, classes: Sequence[str]) -> "LinearHead":
        """The same head with the columns of `classes` alone, in their order."""
        columns = [self.classes.index(name) for name in classes]
        return replace(
            self,
            classes=tuple(classes),
            weights=self.weights[:, columns],
            bias=self.bias[columns],
        )


def softmax(logits: Float32, temperature: float) -> Float64:
    """Class probabilities (n, C) of logits (n, C), which are divided by the temperature."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def save(head: LinearHead, path: Path) -> None:
    """Write `head.h5`: the same head gives the same bytes.

    Raises:
        StorageError: it cannot be written.
    """
    arrays = {
        "classes": files.text_array(head.classes),
        "weights": head.weights,
        "bias": head.bias,
    }
    attributes = {"format": FORMAT, "temperature": head.temperature}
    if head.generic is not None:
        arrays["generic"] = head.generic.mean
        attributes |= {
            "generic_images": head.generic.images,
            "generic_lead": head.generic.lead,
            "generic_expected": head.generic.expected,
        }
    files.save_arrays(path, arrays, attributes)


def load(path: Path) -> LinearHead:
    """Read `head.h5`.

    Raises:
        RunError: the file is damaged, or newer than this program.
    """
    with files.loading_arrays(path, FORMAT) as file:
        classes = file.names("classes", strict.NAME)
        weights = file.array("weights", "<f4", (None, len(classes)), LARGEST)
        return LinearHead(
            classes,
            weights,
            file.array("bias", "<f4", (len(classes),), LARGEST),
            file.attribute("temperature", _TEMPERATURE),
            _generic_from(file, len(weights)) if file.holds("generic") else None,
        )


def _generic_from(file: ArrayFile, width: int) -> Generic:
    return Generic(
        file.array("generic", "<f8", (width,), LARGEST),
        file.attribute("generic_images", _IMAGES),
        file.attribute("generic_lead", strict.number(0, 1e30)),
        file.attribute("generic_expected", _IMAGES) if file.says("generic_expected") else 0,
    )


_TEMPERATURE = strict.number(1e-30, 1e30)
_IMAGES = strict.whole(0, 2**53)
