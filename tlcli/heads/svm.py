"""A linear support vector machine on the directions of feature vectors.

Symbols: n images, D feature width, C classes, φ a feature vector, W (D, C).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tlcli import images
from tlcli.config import AUTO
from tlcli.features import Examples, unit_rows
from tlcli.heads.descent import Size, Solver, minimum
from tlcli.heads.linear import Float32, Float64, LinearHead

PENALTIES = (0.1, 1.0, 10.0)
"""What a margin error may cost. On Caltech-101 the best of these three was the best of seven, from
0.1 to 100."""

USUAL = 1.0
"""Of a problem that is too large to be solved for each of them."""

_FOLDS = 3

_MOST_ROTATED = 2048
"""Directions whose spread is looked for: of more it takes seconds in which no signal is heard."""

_SEARCHED, _FITTED = Solver("svm", steps=350), Solver("svm", steps=50)
"""With the search for a penalty, and without."""

Integers = NDArray[np.integer]
Floats = NDArray[np.floating]


def svm(examples: Examples, balanced: bool = False, asked: str = AUTO) -> LinearHead:
    """One-against-rest support vector machine, squared hinge loss, on φ/‖φ‖.

    It has no intercept: then φᵀW orders the classes as (φ/‖φ‖)ᵀW does, and the head is a linear
    layer on φ itself, b = 0. Mean class accuracy on Caltech-101 (51 classes, three splits, the
    best penalty) with 5 and 25 images a class: 0.9145 and 0.9555. With an intercept, which needs
    the norm of the image at prediction, 0.9154 and 0.9551; with φ divided by the mean ‖φ‖ and an
    intercept, which does not, 0.9143 and 0.9564. Pairs of classes of Fashion-MNIST with 100 and
    10 images: 0.903 without an intercept, 0.896 and 0.891 with it.

    The cost of a margin error is what was asked for, or the last of `PENALTIES` before
    the accuracy over three folds by content stops to rise. The order of the images does not
    matter if they come in the order of their hashes, as from `Recipe.fit`. Of a large problem
    (`descent.LARGE`) it is `USUAL`, without a search.

    Args:
        examples: of all images.
        balanced: weigh all classes alike: an error costs n/(C·n_c).
        asked: the cost of a margin error, or `auto`.

    Source: Chapelle 2007, "Training a Support Vector Machine in the Primal".
    """
    from threadpoolctl import threadpool_limits

    directions = unit_rows(examples.vectors[:])
    classes, columns = np.unique(np.asarray(examples.labels, dtype=object), return_inverse=True)
    weights = np.zeros((directions.shape[1], len(classes)), np.float32)
    if len(classes) > 1:
        with threadpool_limits(limits=1):
            problem = _Problem.of(directions, columns, balanced)
            penalty, solver = USUAL if asked == AUTO else float(asked), _FITTED
            if asked == AUTO and not problem.size.large:
                fold = images.folds(examples.hashes, examples.labels, _FOLDS, examples.groups)
                penalty, solver = _penalty(problem, fold, balanced), _SEARCHED
            weights[:] = problem.weights(problem.solved(penalty, solver))
    return LinearHead(tuple(classes), weights, np.zeros(len(classes), np.float32))


@dataclass(frozen=True, eq=False)
class _Problem:
    """½‖W‖² + penalty·Σ share·max(0, 1 − y·xᵀW)² over images x and classes, y = ±1.

    It is sought in coordinates in which the loss is about as steep in every direction: those of
    the eigenvectors of XᵀX, divided by the root of the curvature where every image counts.
    """

    inputs: Floats
    """(n, r) directions in the basis."""
    basis: Float64 | None
    """(D, r) eigenvectors; None: the coordinates are those of the features."""
    spread: Float64
    """(r, 1) eigenvalues; 0 where they are not known."""
    columns: Integers
    """(n,) the class of each image."""
    shares: Float64
    """(2, C) what an error counts of other images, and of the class's own."""

    @staticmethod
    def of(directions: Float32, columns: Integers, balanced: bool) -> "_Problem":
        classes = int(columns.max()) + 1
        size = Size(len(directions), directions.shape[1], classes)
        shares = _balanced(columns, classes) if balanced else np.ones((2, classes))
        if min(directions.shape) > _MOST_ROTATED:
            spread = np.zeros((size.width, 1))
            return _Problem(directions.astype(size.dtype), None, spread, columns, shares)
        basis, spread = _axes(directions.astype(np.float64))
        return _Problem((directions @ basis).astype(size.dtype), basis, spread, columns, shares)

    @property
    def size(self) -> Size:
        return Size(len(self.inputs), self.inputs.shape[1], self.shares.shape[1])

    def without(self, held: NDArray[np.bool_], balanced: bool) -> "_Problem":
        """The problem of the images that are not held out."""
        columns, classes = self.columns[~held], self.size.classes
        shares = _balanced(columns, classes) if balanced else self.shares
        return replace(self, inputs=self.inputs[~held], columns=columns, shares=shares)

    def solved(self, penalty: float, solver: Solver, start: Float64 | None = None) -> Float64:
        """W in the basis (r, C), from a start that is near."""
        scale = (1 + 2 * penalty * self.spread) ** -0.5
        width, classes = self.inputs.shape[1], self.size.classes
        begin = np.zeros((width, classes)) if start is None else start / scale

        def loss_and_gradient(flat: Float64) -> tuple[float, Float64]:
            loss, gradient = self._loss(flat.reshape(width, classes) * scale, penalty)
            return loss, (gradient * scale).ravel()

        tolerance = 1e-3 if self.size.large else 1e-4
        found = minimum(loss_and_gradient, begin.ravel(), self.size, solver, tolerance)
        return found.reshape(width, classes) * scale

    def _loss(self, weights: Float64, penalty: float) -> tuple[float, Float64]:
        loss, gradient = 0.5 * float((weights**2).sum()), weights.copy()
        columns = weights.astype(self.inputs.dtype)
        for rows in self.size.blocks():
            own = (np.arange(len(self.columns[rows])), self.columns[rows])
            errors = self.inputs[rows] @ columns
            errors[own] *= -1
            errors += 1
            np.maximum(errors, 0, out=errors)
            weighed = errors * self.shares[0].astype(errors.dtype)
            weighed[own] = errors[own] * self.shares[1, self.columns[rows]]
            loss += penalty * float(np.einsum("ij,ij->", errors, weighed, dtype=np.float64))
            weighed[own] *= -1
            gradient += 2 * penalty * (self.inputs[rows].T @ weighed)
        return loss, gradient

    def weights(self, found: Float64) -> Float64:
        """W (D, C) on the directions themselves."""
        return found if self.basis is None else self.basis @ found


def _balanced(columns: Integers, classes: int) -> Float64:
    """What an error counts (2, C) of other images, 1, and of the class's own, n/(C·n_c).

    Of two classes both count so, and one column is the opposite of the other.
    """
    counts = np.bincount(columns, minlength=classes)
    present = max(np.count_nonzero(counts), 1)
    own = len(columns) / (present * np.maximum(counts, 1))
    return np.vstack([own[::-1] if classes == 2 else np.ones(classes), own])


def _axes(directions: Float64) -> tuple[Float64, Float64]:
    """Eigenvectors (D, r) of XᵀX for X (n, D), and their eigenvalues (r, 1); r is the rank."""
    if len(directions) >= directions.shape[1]:
        values, vectors = np.linalg.eigh(directions.T @ directions)
        known = values > 1e-10 * max(values[-1], 1e-300)
        return vectors[:, known], values[known, None]
    values, vectors = np.linalg.eigh(directions @ directions.T)
    known = values > 1e-10 * max(values[-1], 1e-300)
    return directions.T @ vectors[:, known] / np.sqrt(values[known]), values[known, None]


def _penalty(problem: _Problem, fold: Integers, balanced: bool) -> float:
    """The last of `PENALTIES` before the accuracy on images of other folds stops to rise.

    The largest takes three times as many steps as the others together, and overfits most.

    Args:
        problem: of all images.
        fold: (n,)
        balanced: weigh all classes alike, in the accuracy as in the fit.
    """
    columns = problem.columns
    weight = 1 / np.bincount(columns)[columns] if balanced else np.ones(len(columns))
    numbers = np.unique(fold[fold != images.TRAINED_ONLY])
    parts = [_Part.of(problem, fold == number, balanced) for number in numbers]
    parts = [part for part in parts if np.count_nonzero(~part.absent) > 1]
    best, most = PENALTIES[0], -1.0
    for penalty in PENALTIES:
        right = sum(
            float(weight[part.held][part.answers(penalty) == columns[part.held]].sum())
            for part in parts
        )
        if right <= most:
            break
        best, most = penalty, right
    return best


@dataclass(eq=False)
class _Part:
    """A fold on the way through the penalties."""

    held: NDArray[np.bool_]
    """(n,) its images."""
    asked: Floats
    """Their inputs."""
    rest: _Problem
    """Of the others."""
    absent: NDArray[np.bool_]
    """(C,) classes of which there is no other image."""
    weights: Float64 | None = None
    """Of the last penalty, from which the next is sought."""

    @staticmethod
    def of(problem: _Problem, held: NDArray[np.bool_], balanced: bool) -> "_Part":
        rest = problem.without(held, balanced)
        absent = np.bincount(rest.columns, minlength=problem.size.classes) == 0
        return _Part(held, problem.inputs[held], rest, absent)

    def answers(self, penalty: float) -> Integers:
        """The column of the class that each image is taken for."""
        self.weights = self.rest.solved(penalty, _SEARCHED, self.weights)
        scores = self.asked @ self.weights
        scores[:, self.absent] = -np.inf
        return np.asarray(scores.argmax(axis=1))
