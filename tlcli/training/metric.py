"""Metric learning: a projection in which images of one class are near each other.

Where the backbone stays as it is, training takes vectors and no images. It starts from the
directions in which whitened features vary most: in them differences count by how rare they are
within classes, which is as far as moments lead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones, gaussian, moments
from tlcli.config import Progress, TrainingOptions
from tlcli.errors import DataError, UsageError
from tlcli.features import unit_rows
from tlcli.training import loop
from tlcli.training.checkpoint import Checkpoints, Score, TrainingHistory
from tlcli.training.contrastive import require_spread
from tlcli.training.feature_source import FeatureSource
from tlcli.training.image_source import Check
from tlcli.training.learner import Group, Learner, apply_gradients, optimizer
from tlcli.training.loop import Callback, Job
from tlcli.training.order import Columns, by_class

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

Loss = Callable[[Any, Any, Any], tuple[Any, Any]]
"""(vectors (n, M) of length 1, class columns (n,), proxies (C, M)) → the loss, and how many terms
of it teach something."""

Measure = Callable[[Float32], tuple[float, float]]
"""Descriptors (h, M) of the held-out images → MAP@R and Recall@1."""


@dataclass(frozen=True)
class Metric:
    """What a projection is trained by."""

    loss: Loss
    proxies: bool
    """Whether a vector of each class is learned beside the projection."""


WIDTH = 256
"""M, where the features have as many numbers."""

IMAGES = 4
"""K, of a class in a batch."""

CLASSES = 16
"""P, of a batch, where there are as many and nothing else was asked for."""

RATE = 0.1
"""Share of the learning rate with which the projection learns; proxies learn with all of it."""


@dataclass(frozen=True, eq=False)
class MetricSetup:
    """What a training of a projection is told."""

    metric: Metric
    bits: int
    """Of the fixed-point grid of the features."""
    options: TrainingOptions
    checkpoints: Checkpoints
    resume: bool
    callback: Callback
    progress: Progress


@dataclass(frozen=True, eq=False)
class Labelled:
    """Features of images with the columns of their classes, 0 to C − 1."""

    vectors: Float32
    """(n, D)"""
    columns: Columns


@dataclass(frozen=True, eq=False)
class Projected:
    """x → (x − m)A."""

    centre: Float32
    """m (D,)"""
    matrix: Float32
    """A (D, M)"""

    def of(self, vectors: Float32) -> Float32:
        """Vectors (n, M) of features (n, D)."""
        return np.asarray((vectors - self.centre) @ self.matrix, np.float32)


def fit_projection(
    setting: MetricSetup, learned: Labelled, held_out: Float32, measure: Measure
) -> tuple[Projected, TrainingHistory]:
    """Train a projection of features.

    Args:
        setting: how.
        learned: images to learn from.
        held_out: (h, D) features of images of other classes.
        measure: how good their descriptors are, which decides the epoch that is kept.

    Raises:
        DataError: too few classes have two images.
        UsageError: the batch cannot be filled, the training collapsed, no batch teaches anything,
            or the loss is no longer finite.
        StorageError: the state cannot be saved.
    """
    classes = batch_classes(setting.options, learned.columns)
    backbones.keras_module().utils.set_random_seed(setting.options.seed)
    start = whitened(learned, setting.bits)
    inner, outer = (start.of(vectors) for vectors in (learned.vectors, held_out))
    top = Top.of(inner, learned.columns)
    learner = learner_of(
        setting.metric,
        setting.options,
        top,
        Below.of_vectors(inner.shape[1]),
        classes,
        lambda check: measure(top.project(outer)),
    )
    job = Job(
        FeatureSource(inner),
        learned.columns,
        setting.options,
        classes * IMAGES,
        setting.checkpoints,
        setting.resume,
        setting.callback,
        setting.progress,
    )
    history = loop.train(learner, job)
    return top.after(start), history


def batch_classes(options: TrainingOptions, columns: Columns) -> int:
    """P, the classes of a batch.

    Raises:
        DataError: too few classes have two images.
        UsageError: the batch that was asked for cannot be filled.
    """
    able = int((np.bincount(columns) > 1).sum())
    if able < 2:
        raise DataError(
            f"Expected at least 2 classes of two or more images to learn from. Received: {able}. "
            "Add images."
        )
    size = options.batch_size
    if size is None:
        return min(CLASSES, able)
    if size % IMAGES or not 2 * IMAGES <= size <= able * IMAGES:
        raise UsageError(
            f"Expected a batch of {IMAGES} images of each of 2 to {able} classes. Received: "
            f"batch-size={size}. Use a multiple of {IMAGES} from {2 * IMAGES} to {able * IMAGES}."
        )
    return size // IMAGES


def whitened(learned: Labelled, bits: int) -> Projected:
    """Features whitened by their covariance within classes, as far as it has an inverse."""
    vectors = learned.vectors
    total = moments.of(vectors, tuple(map(str, learned.columns)), "", bits)
    inverse = gaussian.whitening(total)
    matrix = np.eye(vectors.shape[1]) if inverse is None else inverse.T
    centre = vectors.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.norm((vectors - centre) @ matrix, axis=1)
    matrix = matrix / (lengths.mean() or 1.0)
    return Projected(centre.astype(np.float32), matrix.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Top:
    """What is trained, on whitened features."""

    matrix: Any
    """(D, M)"""
    proxies: Any
    """(C, M), one of each class."""
    taught: Any
    """(2,): steps that were made, and how many terms of their losses taught something."""

    @staticmethod
    def of(inner: Float32, columns: Columns) -> "Top":
        """The directions in which vectors (n, D) vary most, and the mean of each class in them."""
        keras = backbones.keras_module()
        width = min(WIDTH, inner.shape[1])
        _, directions = np.linalg.eigh(inner.T.astype(np.float64) @ inner)
        matrix = directions[:, ::-1][:, :width].astype(np.float32)
        vectors = unit_rows(inner @ matrix)
        proxies = np.stack([vectors[columns == c].mean(axis=0) for c in range(columns.max() + 1)])
        return Top(
            keras.Variable(matrix, name="projection"),
            keras.Variable(proxies, name="proxies"),
            keras.Variable(np.zeros(2, np.float32), name="taught"),
        )

    def project(self, inner: Float32) -> Float32:
        """Descriptors (n, M)."""
        return unit_rows(inner @ self.matrix.numpy())

    def after(self, start: Projected) -> Projected:
        """What it makes of features, with what whitened them."""
        matrix = start.matrix.astype(np.float64) @ self.matrix.numpy()
        return Projected(start.centre, matrix.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Below:
    """Where a step gets whitened features (n, D) from: a batch is these, or is made into them."""

    batch: Any
    """What a step is given: a `tf.TensorSpec`."""
    run: Callable[[Any], Any]
    """From a batch to whitened features; called while a graph is built."""
    groups: Sequence[Group] = ()
    """Of layers that learn."""
    weights: Sequence[Any] = ()
    """Of these layers."""
    others: Sequence[Any] = ()
    """Further variables that a step changes."""
    begin: Callable[[int], None] = lambda epoch: None
    """See `Learner.begin`."""

    @staticmethod
    def of_vectors(width: int) -> "Below":
        """A batch is whitened features of this width."""
        import tensorflow as tf

        return Below(tf.TensorSpec((None, width), tf.float32), lambda inner: inner)


def learner_of(
    metric: Metric,
    options: TrainingOptions,
    top: Top,
    below: Below,
    classes: int,
    measured: Callable[[Check], tuple[float, float]],
) -> Learner:
    """Trains a projection, and the layers below it where these learn.

    Args:
        metric: the loss.
        options: learning rates.
        top: the projection, and a vector of each class.
        below: what gives it features.
        classes: P, of a batch.
        measured: MAP@R and Recall@1 of held-out images.
    """
    learning = [(top.matrix, RATE), (top.proxies, 1.0)]
    groups = [
        Group([variable], share, optimizer([variable], options))
        for variable, share in (learning if metric.proxies else learning[:1])
    ]
    groups += below.groups
    slots = [variable for group in groups for variable in group.optimizer.variables]

    def measure(check: Check) -> Score:
        _require_lessons(*top.taught.numpy())
        precision, recall = measured(check)
        check()
        return Score(precision, recall - 1)

    return Learner(
        _step(metric, options, top, below, groups),
        measure,
        [top.matrix, *below.weights],
        [top.proxies, top.taught, *slots, *below.others],
        order=by_class(classes, IMAGES),
        begin=below.begin,
    )


def _require_lessons(steps: float, terms: float) -> None:
    """Refuse to go on where no batch of an epoch had anything to teach."""
    if steps and not terms:
        raise UsageError(
            "Expected batches with a triplet, or a pair, to learn from. Received: none in the "
            "first epoch: all images are nearer to those of their class than to others already, by "
            "more than the margin. Use --objective softmax-margin, more classes, or a larger "
            "--batch-size; whitened descriptors need no training."
        )


def _step(
    metric: Metric, options: TrainingOptions, top: Top, below: Below, groups: list[Group]
) -> Callable[[NDArray[Any], Columns, float], tuple[float, float]]:
    import tensorflow as tf

    signature = [below.batch, tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.float32)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def graph(batch: Any, columns: Any, rate: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            inner = below.run(batch)
            vectors = tf.math.l2_normalize(tf.matmul(inner, top.matrix.value), axis=1)
            loss, terms = metric.loss(vectors, columns, top.proxies.value)
        apply_gradients(tape, loss, groups, rate, options.clip_norm)
        top.taught.assign_add(tf.stack([1.0, terms]))
        return loss, vectors

    def step(batch: NDArray[Any], columns: Columns, rate: float) -> tuple[float, float]:
        loss, vectors = graph(batch, columns, np.float32(rate))
        if np.isfinite(loss):
            require_spread(vectors.numpy())
        return float(loss), _found(vectors.numpy(), columns)

    return step


def _found(vectors: Float32, columns: Columns) -> float:
    """The share of the images of a batch whose nearest other one is of their class."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    return float((columns[similar.argmax(axis=1)] == columns).mean())
