"""Classification by the images of an index: the nearest ones, or the nearest class mean.

A class that was added a second ago with one image answers at once; nothing is solved.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlcli.features import unit_rows
from tlcli.heads import softmax
from tlcli.moments import Rows
from tlcli.retrieval.search import Searcher

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

VOTERS = 10
"""Most images that vote."""

TEMPERATURE = 0.05
"""By which similarities are divided before they become votes."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A classifier whose classes are those of the images in an index."""

    searcher: Searcher
    by: str
    """A row of `BY`."""
    classes: tuple[str, ...]

    @staticmethod
    def of(searcher: Searcher, by: str) -> "Neighbours":
        """Over all classes of an index, sorted."""
        return Neighbours(searcher, by, tuple(searcher.index.records.labels()))

    def logits(self, features: Rows) -> Float32:
        """(n, C) of the backbone's features (n, D); −∞ where no voter is of a class."""
        return BY[self.by].logits(self, self.searcher.index.descriptor.of(features[:]))

    def softmax(self, logits: Float32) -> Float64:
        """Class probabilities (n, C) of logits (n, C)."""
        return softmax(logits, 1.0)


@dataclass(frozen=True)
class _Row:
    says: str
    """As the help of `--by` has it."""
    logits: Callable[[Neighbours, Float32], Float32]
    """(classifier, descriptors (n, M)) → (n, C)"""


def _votes(neighbours: Neighbours, descriptors: Float32) -> Float32:
    """Ln Σ exp(s/τ) over those of the nearest images that are of a class."""
    column = {name: place for place, name in enumerate(neighbours.classes)}
    found = np.full((len(descriptors), len(column)), -np.inf, np.float32)
    for row, hits in enumerate(neighbours.searcher.search(descriptors, VOTERS)):
        for hit in hits:
            place = column[hit.entry.label]
            found[row, place] = np.logaddexp(found[row, place], hit.similarity / TEMPERATURE)
    return found


def _means(neighbours: Neighbours, descriptors: Float32) -> Float32:
    """s/τ with the mean descriptor of each class, made to length 1."""
    index = neighbours.searcher.index
    column = {name: place for place, name in enumerate(neighbours.classes)}
    sums = np.zeros((len(column), index.descriptor.width))
    labels = [column[entry.label] for entry in index.records.entries()]
    start = 0
    for block in index.live_blocks():
        np.add.at(sums, labels[start : start + len(block)], block)
        start += len(block)
    return np.asarray(descriptors @ unit_rows(sums).T / TEMPERATURE, np.float32)


BY = {
    "neighbours": _Row("the ten most similar images vote", _votes),
    "means": _Row("the class with the most similar mean", _means),
}
