"""Heads: every one is a linear softmax layer; solvers differ in how they find its weights.

Symbols: n images, D feature width, C classes, φ a feature vector, W (D, C), b (C,).
A head answers softmax(φᵀW + b).

SciPy is imported by the solvers alone: its import takes half a second, and a prediction needs none.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import files
from tlcli.errors import UsageError
from tlcli.features import Features
from tlcli.moments import Moments, Rows

FORMAT = 1
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_ROWS, _COLUMNS = 256, 64
"""Logits are computed in blocks of this shape, see `LinearHead.logits`."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A softmax layer on feature vectors, classes in the order of the run's registry."""

    classes: tuple[str, ...]
    weights: Float32
    """(D, C)"""
    bias: Float32
    """(C,)"""

    def logits(self, features: Rows) -> Float32:
        """Logits (n, C) of features (n, D), which are read a block at a time.

        Computed in blocks of one fixed shape, padded with zeros: a logit depends on its image and
        its column alone, bit for bit, however many images or classes stand beside it.
        """
        result = np.empty((len(features), len(self.classes)), np.float32)
        for rows, logits in self._blocks(features):
            result[rows] = logits
        return result

    def probabilities(self, features: Rows) -> Float64:
        """Class probabilities (n, C) of features (n, D)."""
        logits = self.logits(features).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def predict(self, features: Rows) -> NDArray[np.object_]:
        """The most probable class name (n,) for features (n, D)."""
        best = np.zeros(len(features), np.intp)
        for rows, logits in self._blocks(features):
            best[rows] = logits.argmax(axis=1)
        return np.asarray(np.array(self.classes, dtype=object)[best])

    def _blocks(self, features: Rows) -> Iterator[tuple[slice, Float32]]:
        """Yield the logits (k, C) of a slice of k rows after the other."""
        count = len(self.classes)
        weights = _padded(self.weights, 0, -count % _COLUMNS)
        columns = [
            np.ascontiguousarray(weights[:, left : left + _COLUMNS])
            for left in range(0, count, _COLUMNS)
        ]
        for top in range(0, len(features), _ROWS):
            rows = slice(top, top + _ROWS)
            block = features[rows]
            padded = _padded(block, _ROWS - len(block), 0)
            logits = np.hstack([padded @ column for column in columns])
            yield rows, logits[: len(block), :count] + self.bias

    def ordered(self, classes: Sequence[str]) -> "LinearHead":
        """The same head with its columns in the order of `classes` (a permutation)."""
        columns = [self.classes.index(name) for name in classes]
        return LinearHead(tuple(classes), self.weights[:, columns], self.bias[columns])


def _padded(matrix: Float32, rows: int, columns: int) -> Float32:
    return np.ascontiguousarray(np.pad(matrix, ((0, rows), (0, columns))))


def lda(moments: Moments) -> LinearHead:
    """Linear discriminant analysis with one shared, shrunken covariance.

    With counts n_c, means μ_c = s_c/n_c and within-class covariance
    S = (G − Σ_c s_c s_cᵀ/n_c)/n, shrunk to Σ = (1−ε)S + ε(tr S/D)I with ε = D/(D+n):
    W = Σ⁻¹μ, b_c = −½ μ_cᵀΣ⁻¹μ_c + log(1/C).
    ε depends on the state alone, so the head does not depend on how rounds were cut.
    Where no class varies (S = 0) Σ is the identity: nearest class mean.

    Source: the streaming form is Hayes & Kanan 2020, "Lifelong Machine Learning with Deep
    Streaming Linear Discriminant Analysis".
    """
    from scipy import linalg

    unit = 2.0**-moments.bits
    counts = moments.counts.astype(np.float64)
    means = moments.sums * (unit / counts[:, None])
    shrunken = _shrunken_covariance(moments)
    factor = linalg.cho_factor(shrunken, lower=True, overwrite_a=True)
    weights = linalg.cho_solve(factor, means.T)
    bias = -0.5 * (means.T * weights).sum(axis=0) - np.log(len(counts))
    return LinearHead(moments.classes, weights.astype(np.float32), bias.astype(np.float32))


def _shrunken_covariance(moments: Moments) -> Float64:
    """Σ (D, D) in feature units; the identity where S is nothing but rounding."""
    width, images = moments.width, moments.images
    scaled = moments.sums / np.sqrt(moments.counts.astype(np.float64))[:, None]
    gram = moments.gram.astype(np.float64)
    covariance: Float64 = (gram - scaled.T @ scaled) / images
    mean_variance = float(np.trace(covariance)) / width
    if mean_variance <= 1e-12 * float(np.trace(gram)) / (width * images):
        return np.eye(width)
    amount = width / (width + images)
    covariance *= 1 - amount
    covariance[np.diag_indices(width)] += amount * mean_variance
    covariance *= 4.0**-moments.bits
    return covariance


def softmax(features: Float32, labels: Sequence[str]) -> LinearHead:
    """Multinomial logistic regression on features (n, D), solved to convergence.

    Features are standardised; the loss is the mean cross-entropy + ‖W‖²/(2n), as in
    scikit-learn's LogisticRegression with C = 1. L-BFGS finds the one minimum.
    """
    classes = tuple(sorted(set(labels)))
    frame = Standardisation.of_features(features)
    start = LinearHead(
        classes,
        np.zeros((features.shape[1], len(classes)), np.float32),
        np.zeros(len(classes), np.float32),
    )
    return fit_columns(start, features, labels, frame, free=np.ones(len(classes), bool))


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
        unit = 2.0**-moments.bits
        mean = moments.sums.sum(axis=0) * (unit / moments.images)
        second = np.diag(moments.gram) * (unit**2 / moments.images)
        return Standardisation(mean, _nonzero(np.sqrt(np.maximum(second - mean**2, 0.0))))


def _nonzero(scale: Float64) -> Float64:
    """A feature that never varies is left as it is."""
    return np.where(scale > 1e-7, scale, 1.0)


def fit_columns(
    start: LinearHead,
    features: Float32,
    labels: Sequence[str],
    frame: Standardisation,
    free: NDArray[np.bool_],
) -> LinearHead:
    """Fit the `free` columns of a head by cross-entropy over all classes; the others stay.

    Columns that are not free keep their very bits. Free columns start from `start` and pay
    (‖W‖² + Σb²)/(2n) in the standardised frame, the bias only where other columns are fixed
    (otherwise a column that has seen nothing but its own class would win everywhere).

    Args:
        start: the head to start from, columns in registry order.
        features: (n, D).
        labels: n class names, all known to `start`.
        frame: where the free columns are regularised.
        free: (C,) which columns may move.
    """
    from scipy import optimize

    problem = _ColumnProblem.of(start, features, labels, frame, free)
    solution = optimize.minimize(
        problem.loss_and_gradient,
        problem.start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500, "gtol": 1e-5, "ftol": 1e-12},
    )
    fitted = problem.unpack(solution.x)
    weights, bias = start.weights.copy(), start.bias.copy()
    weights[:, free] = fitted[:-1] / frame.scale[:, None]
    bias[free] = fitted[-1] - (frame.mean / frame.scale) @ fitted[:-1]
    return LinearHead(start.classes, weights, bias)


@dataclass(frozen=True, eq=False)
class _ColumnProblem:
    """The convex problem behind `fit_columns`: the free columns, their bias as last row."""

    inputs: Float64
    """(n, D + 1) standardised features and a column of ones."""
    fixed_logits: Float64
    """(n, C) logits of the fixed columns; the free ones are overwritten."""
    targets: Float64
    """(n, C) one-hot."""
    free: NDArray[np.bool_]
    penalty: Float64
    """(D + 1, 1) weight decay of each row."""
    start: Float64

    @staticmethod
    def of(
        head: LinearHead,
        features: Float32,
        labels: Sequence[str],
        frame: Standardisation,
        free: NDArray[np.bool_],
    ) -> "_ColumnProblem":
        count = len(features)
        inputs = np.hstack([(features - frame.mean) / frame.scale, np.ones((count, 1))])
        index = [head.classes.index(name) for name in labels]
        penalty = np.full((inputs.shape[1], 1), 1.0 / count)
        if free.all():
            penalty[-1] = 0.0
        weights, bias = head.weights[:, free], head.bias[free]
        start = np.vstack([weights * frame.scale[:, None], bias + frame.mean @ weights])
        return _ColumnProblem(
            inputs,
            head.logits(features).astype(np.float64),
            np.eye(len(head.classes))[index],
            free,
            penalty,
            start.ravel(),
        )

    def unpack(self, flat: Float64) -> Float64:
        return flat.reshape(self.inputs.shape[1], -1)

    def loss_and_gradient(self, flat: Float64) -> tuple[float, Float64]:
        from scipy import special

        columns = self.unpack(flat)
        logits = self.fixed_logits.copy()
        logits[:, self.free] = self.inputs @ columns
        log_probabilities = special.log_softmax(logits, axis=1)
        count = len(logits)
        residual = (np.exp(log_probabilities) - self.targets)[:, self.free] / count
        loss = -(log_probabilities * self.targets).sum() / count
        loss += 0.5 * float((self.penalty * columns**2).sum())
        gradient = self.inputs.T @ residual + self.penalty * columns
        return float(loss), gradient.ravel()


FROM_MOMENTS: dict[str, Callable[[Moments], LinearHead]] = {"lda": lda}
"""Solved from the moments: exact in any order of rounds, without old images."""

FROM_FEATURES: dict[str, Callable[[Float32, Sequence[str]], LinearHead]] = {"softmax": softmax}
"""Solved from the features of the images at hand."""

Fit = Callable[[Moments, Features], LinearHead]
"""From the moments of all images so far and the features of this round's, the head of the round.
Called again without the held-out images when the round is validated: it depends on nothing else."""

HEADS = (*FROM_MOMENTS, *FROM_FEATURES)


def require_known(name: str) -> None:
    """Raise UsageError, listing the known heads, unless `name` is one of them."""
    if name not in HEADS:
        raise UsageError(
            f"Expected a head: {', '.join(HEADS)}. Received: head={name!r}. Choose one of these."
        )


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
    files.save_arrays(path, arrays, {"format": FORMAT})


def load(path: Path) -> LinearHead:
    """Read `head.h5`.

    Raises:
        RunError: the file is damaged, or newer than this program.
    """
    with files.parsing(path):
        arrays, _ = files.load_arrays(path, FORMAT)
        head = LinearHead(files.texts_of(arrays["classes"]), arrays["weights"], arrays["bias"])
        if head.weights.shape[1:] != (len(head.classes),) or head.bias.shape != (
            len(head.classes),
        ):
            raise ValueError("classes and columns differ in number")
        return head
