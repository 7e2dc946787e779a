"""A head of an earlier round under the names that its classes have by now."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tlcli.heads.linear import Float32, Float64, LinearHead
from tlcli.moments import Rows


@dataclass(frozen=True, eq=False)
class UnitedHead:
    """A head whose classes may have come to have one name: it answers with their sum.

    Symbols: n images, D feature width, C names.
    """

    head: LinearHead
    names: Mapping[str, str]
    """Class of the head → its name by now; other classes keep theirs."""

    @property
    def temperature(self) -> float:
        """T."""
        return self.head.temperature

    @property
    def _called(self) -> list[str]:
        """The name by now of each column."""
        return [self.names.get(name, name) for name in self.head.classes]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """C names, each in the place of its first class."""
        return tuple(dict.fromkeys(self._called))

    def logits(self, features: Rows) -> Float32:
        """(n, C) of features (n, D): T·log Σ exp(logit/T) over the classes of a name.

        A name of one class has the logit of that class, bit for bit.
        """
        logits = self.head.logits(features)
        called = np.array(self._called, object)
        columns = [logits[:, called == name] for name in self.classes]
        return np.stack([self._together(parts) for parts in columns], axis=1)

    def _together(self, logits: Float32) -> Float32:
        """(n,) of the logits (n, k) of k classes."""
        if logits.shape[1] == 1:
            return logits[:, 0]
        total: Float64 = np.logaddexp.reduce(logits.astype(np.float64) / self.temperature, axis=1)
        return (total * self.temperature).astype(np.float32)

    def softmax(self, logits: Float32) -> Float64:
        """Class probabilities (n, C) of logits (n, C)."""
        return self.head.softmax(logits)

    def predict(self, features: Rows) -> NDArray[np.object_]:
        """The most probable name (n,) for features (n, D)."""
        best = self.logits(features).argmax(axis=1)
        return np.asarray(np.array(self.classes, dtype=object)[best])
