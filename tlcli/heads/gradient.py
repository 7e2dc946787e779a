"""Heads solved by optimisation on features: cross-entropy, to convergence.

Symbols: n images, D feature width, C classes, φ a feature vector, W (D, C), b (C,).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tlcli import gaussian
from tlcli.heads.descent import Size, Solver, minimum
from tlcli.heads.linear import Float32, Float64, LinearHead
from tlcli.moments import Moments

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating]

_SOLVER, _COMPARED = Solver("softmax", steps=60), Solver("softmax", steps=200)
"""Of the head, and of heads that are only compared."""

_COMPARED_TOLERANCE = 1e-3

_MOST_ROTATED = 2048
"""Images whose span is looked for: of more it takes seconds in which no signal is heard."""


def softmax(
    features: Float32, labels: Sequence[str], balanced: bool = False, cost: float = 1.0
) -> LinearHead:
    """Multinomial logistic regression on features (n, D), solved to convergence.

    Features are standardised; the loss is the mean cross-entropy + ‖W‖²/(2nC), as in
    scikit-learn's LogisticRegression. L-BFGS finds the one minimum.

    Args:
        features: (n, D).
        labels: (n,)
        balanced: weigh all classes alike.
        cost: C, see `costs`.
    """
    classes = tuple(sorted(set(labels)))
    frame, free = Standardisation.of_features(features), np.ones(len(classes), bool)
    task = Task(features, labels, frame, free, balanced, pull=1.0 / (cost * len(labels)))
    return fit_columns(nothing_learned(classes, features.shape[1]), task)


def nothing_learned(classes: Sequence[str], width: int) -> LinearHead:
    """A head for which all classes are alike."""
    count = len(classes)
    return LinearHead(
        tuple(classes), np.zeros((width, count), np.float32), np.zeros(count, np.float32)
    )


@dataclass(frozen=True, eq=False)
class Standardisation:
    """The frame z = (φ − mean)/scale in which a gradient-solved head is regularised."""

    mean: Float64
    scale: Float64

    @staticmethod
    def of_features(features: Float32) -> "Standardisation":
        """From the features (n, D) themselves."""
        return Standardisation(
            features.mean(axis=0, dtype=np.float64),
            _nonzero(features.std(axis=0, dtype=np.float64)),
        )

    @staticmethod
    def of_moments(moments: Moments) -> "Standardisation":
        """From all images that the moments have seen."""
        mean = gaussian.mean(moments)
        second = np.diag(moments.gram) * (4.0**-moments.bits / moments.images)
        return Standardisation(mean, _nonzero(np.sqrt(np.maximum(second - mean**2, 0.0))))


def _nonzero(scale: Float64) -> Float64:
    """A feature that never varies is left as it is."""
    return np.where(scale > 1e-7, scale, 1.0)


@dataclass(frozen=True, eq=False)
class Distillation:
    """Keep the logits of old columns as they were on the images at hand.

    Source: Li & Hoiem 2016, "Learning without Forgetting".
    """

    old: int
    """The first columns are the old ones."""
    weight: float
    """λ, against the cross-entropy."""
    temperature: float = 2.0
    """By which logits are divided before they are compared."""


@dataclass(frozen=True, eq=False)
class Task:
    """What columns are fitted to."""

    features: Float32
    """(n, D)"""
    labels: Sequence[str]
    """n class names, all known to the head."""
    frame: Standardisation
    """Where the columns are regularised."""
    free: Mask
    """(C,) which columns may move."""
    balanced: bool = False
    """Whether every class weighs the same, however many images it has."""
    anchored: Mask | None = None
    """(C,) which free columns are pulled to where they start; the others are pulled to zero."""
    distillation: Distillation | None = None
    pull: float | None = None
    """What free columns pay for moving, against the mean loss of an image; None: 1/n."""


def fit_columns(start: LinearHead, task: Task) -> LinearHead:
    """Fit the free columns of a head by cross-entropy over all classes; the others stay.

    Columns that are not free keep their very bits, and the temperature stays. Free columns pay
    ‖W − A‖²·pull/2 in the standardised frame, where A is zero, or the start of an anchored column
    (L2-SP, Li et al. 2018: what the images at hand say nothing about is not forgotten). The bias
    pays where there are fixed or anchored columns: otherwise a column that has seen nothing but
    its own class would win everywhere.
    """
    from threadpoolctl import threadpool_limits

    if not len(task.labels):
        return start
    # The thread pools of NumPy and SciPy wait for each other: one thread is two to six times as
    # fast as two, and the head does not depend on the number of processors.
    with threadpool_limits(limits=1):
        problem = _Problem.of(start, task)
        solution = minimum(problem.loss_and_gradient, problem.start, problem.size, _SOLVER)
        return _moved(start, task, problem.columns(solution))


def path(start: LinearHead, task: Task, costs: Sequence[float]) -> Iterator[LinearHead]:
    """The head for each of rising costs C, sought from the one before: good enough to compare.

    Args:
        start: as in `fit_columns`.
        task: with C = 1.
        costs: C: columns pay for moving in proportion to 1/C.
    """
    problem = _Problem.of(start, task)
    found = problem.start
    for cost in costs:
        priced = replace(problem, penalty=problem.penalty / cost)
        found = minimum(
            priced.loss_and_gradient, found, problem.size, _COMPARED, _COMPARED_TOLERANCE
        )
        yield _moved(start, task, problem.columns(found))


def _moved(start: LinearHead, task: Task, fitted: Float64) -> LinearHead:
    """The head with its free columns where they were found, (D + 1, free) in the frame."""
    frame, free = task.frame, task.free
    weights, bias = start.weights.copy(), start.bias.copy()
    columns = fitted * start.temperature
    weights[:, free] = columns[:-1] / frame.scale[:, None]
    bias[free] = columns[-1] - (frame.mean / frame.scale) @ columns[:-1]
    return replace(start, weights=weights, bias=bias)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The convex problem behind `fit_columns`: how far the free columns move from their anchor.

    The solution moves within the span of the n inputs alone: in every other direction there is
    nothing but the penalty. With fewer images than features it is sought in that span.
    """

    size: Size
    inputs: Floats
    """(n, r + 1) standardised features in the basis, and a column of ones."""
    basis: Float64 | None
    """(D, r) orthonormal; None where r is D."""
    logits: Floats
    """(n, C) calibrated logits of the start; those of free columns are overwritten."""
    offset: Floats
    """(n, free) logits of the anchor."""
    targets: Floats
    """(n, C) one-hot, times the weight of the image; all of them sum to 1."""
    free: Mask
    penalty: Float64
    """(r + 1, 1) weight decay of each row."""
    anchor: Float64
    """(D + 1, free) where the decay pulls to; the bias is the last row."""
    start: Float64
    distillation: Distillation | None

    @staticmethod
    def of(head: LinearHead, task: Task) -> "_Problem":
        count, free, frame = len(task.features), task.free, task.frame
        standard = (task.features - frame.mean) / frame.scale
        anchored = np.zeros(len(free), bool) if task.anchored is None else task.anchored
        calibrated = head.calibrated()
        weights, bias = calibrated.weights[:, free], calibrated.bias[free]
        start = np.vstack([weights * frame.scale[:, None], bias + frame.mean @ weights])
        anchor = np.where(anchored[free], start, 0.0)
        basis, reduced = _span(standard)
        inputs = np.hstack([reduced, np.ones((count, 1))])
        pull = 1.0 / count if task.pull is None else task.pull
        penalty = np.full((inputs.shape[1], 1), pull)
        if free.all() and not anchored.any():
            penalty[-1] = 0.0
        moved = start - anchor
        if basis is not None:
            moved = np.vstack([basis.T @ moved[:-1], moved[-1:]])
        size = Size(count, inputs.shape[1], len(free))
        return _Problem(
            size,
            inputs.astype(size.dtype),
            basis,
            calibrated.logits(task.features).astype(size.dtype),
            (standard @ anchor[:-1] + anchor[-1]).astype(size.dtype),
            _targets(head.classes, task).astype(size.dtype),
            free,
            penalty,
            anchor,
            moved.ravel(),
            task.distillation,
        )

    def columns(self, flat: Float64) -> Float64:
        """The free columns (D + 1, free) in the standardised frame."""
        moved = self._unpack(flat)
        if self.basis is not None:
            moved = np.vstack([self.basis @ moved[:-1], moved[-1:]])
        return self.anchor + moved

    def _unpack(self, flat: Float64) -> Float64:
        return flat.reshape(self.inputs.shape[1], -1)

    def loss_and_gradient(self, flat: Float64) -> tuple[float, Float64]:
        moved = self._unpack(flat)
        loss = 0.5 * float((self.penalty * moved**2).sum())
        gradient = self.penalty * moved
        columns = moved.astype(self.inputs.dtype)
        for rows in self.size.blocks():
            more, residual = self._of_images(rows, columns)
            loss += more
            gradient += self.inputs[rows].T @ residual[:, self.free]
        return loss, gradient.ravel()

    def _of_images(self, rows: slice, columns: Floats) -> tuple[float, Floats]:
        """The loss on some images, and its gradient with respect to their logits (k, C)."""
        logits = self.logits[rows].copy()
        logits[:, self.free] = self.offset[rows] + self.inputs[rows] @ columns
        loss, residual = _cross_entropy(logits, self.targets[rows])
        if self.distillation is not None:
            kept, pull = self._distilled(rows, logits, self.distillation)
            loss += kept
            residual[:, : self.distillation.old] += pull
        return loss, residual

    def _distilled(self, rows: slice, logits: Floats, how: Distillation) -> tuple[float, Floats]:
        """λT²·KL(softmax(start/T) ‖ softmax(now/T)) but for a constant, and its gradient."""
        from scipy import special

        old = slice(how.old)
        start = self.logits[rows, old] / how.temperature
        targets = special.softmax(start, axis=1) / self.size.images
        loss, residual = _cross_entropy(logits[:, old] / how.temperature, targets)
        factor = how.weight * how.temperature
        return factor * how.temperature * loss, factor * residual


def _span(inputs: Float64) -> tuple[Float64 | None, Float64]:
    """An orthonormal basis (D, r) of the rows of inputs (n, D), and the rows in it (n, r).

    None and the inputs themselves where there are as many images as features, or very many.
    """
    if len(inputs) >= min(inputs.shape[1], _MOST_ROTATED):
        return None, inputs
    basis, rows = np.linalg.qr(inputs.T)
    return basis, np.ascontiguousarray(rows.T)


def _cross_entropy(logits: Floats, targets: Floats) -> tuple[float, Floats]:
    """−Σ targets·log softmax(logits), and its gradient (n, C) with respect to the logits."""
    from scipy import special

    log_probabilities = special.log_softmax(logits, axis=1)
    weights = targets.sum(axis=1, keepdims=True)
    residual = np.exp(log_probabilities) * weights - targets
    return -float((log_probabilities * targets).sum(dtype=np.float64)), residual


def _targets(classes: Sequence[str], task: Task) -> Float64:
    column = {name: index for index, name in enumerate(classes)}
    index = np.array([column[name] for name in task.labels])
    weights = np.full(len(index), 1.0 / len(index))
    if task.balanced:
        counts = np.bincount(index, minlength=len(classes))
        weights = 1.0 / (counts[index] * np.count_nonzero(counts))
    targets = np.zeros((len(index), len(classes)))
    targets[np.arange(len(index)), index] = weights
    return targets
