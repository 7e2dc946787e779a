"""Training with labels: a backbone and its softmax head, by cross-entropy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.config import TrainingOptions
from tlcli.heads import LinearHead
from tlcli.training import losses
from tlcli.training.augmentation import Augmenter
from tlcli.training.checkpoint import Score
from tlcli.training.distribution import ALONE, Distribution
from tlcli.training.image_source import Check, ImageSource, Source
from tlcli.training.learner import (
    Group,
    Learner,
    groups_of,
    moving,
    random_states,
)
from tlcli.training.order import Columns
from tlcli.training.steps import Parts

MEASURED_AT_ONCE = 64
"""Images of a forward pass."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """What steps are given, with the columns of the classes."""

    source: Source
    columns: Columns
    """(n,)"""


@dataclass(frozen=True, eq=False)
class Examples(Labelled):
    """Images with the columns of their classes."""

    source: ImageSource


@dataclass(frozen=True, eq=False)
class Teacher:
    """The network as it was, whose answers are held where images cannot hold them.

    λT²·KL(softmax(teacher/T) ‖ softmax(now/T)) is added to the loss (Li & Hoiem 2016).
    """

    model: Any
    head: LinearHead
    weight: float
    """λ"""
    temperature: float = 2.0
    """T"""

    def logits(self, images: Any) -> Any:
        """Its logits (n, C) for images (n, S, S, 3); called while a graph is built."""
        plain = self.head.calibrated()
        return self.model(images, training=False) @ plain.weights + plain.bias


@dataclass(frozen=True, eq=False)
class Start:
    """What training begins from."""

    head: LinearHead
    length: float | None = None
    """The mean length of the features that it stands on; None where it is still to be measured."""

    @staticmethod
    def of(head: LinearHead, vectors: NDArray[np.float32]) -> "Start":
        """A head of any temperature, and features (n, D) of images.

        The length is a measure, and has three digits: processors differ in the last ones.
        """
        return Start(head, float(f"{np.linalg.norm(vectors, axis=1).mean():.3g}"))


@dataclass(frozen=True, eq=False)
class SoftmaxTop:
    """The head while it is trained, on features divided by their usual length.

    Adam moves every weight by about the learning rate, whatever the gradient. On features of
    length r the logits would move r times as far, in the first steps far away from the head that
    training starts from; on features of length 1 one learning rate fits every backbone.
    """

    weights: Any
    bias: Any
    classes: tuple[str, ...]
    length: float
    """r"""

    @staticmethod
    def of(head: LinearHead, length: float) -> "SoftmaxTop":
        """From a head of any temperature, for features of this mean length."""
        keras = backbones.keras_module()
        plain, usual = head.calibrated(), length or 1.0
        weights = keras.Variable(plain.weights * np.float32(usual), name="head_weights")
        bias = keras.Variable(plain.bias, name="head_bias")
        return SoftmaxTop(weights, bias, plain.classes, usual)

    def logits(self, features: Any) -> Any:
        """Logits (n, C) of features (n, D); called while a graph is built, or on arrays."""
        return features @ (self.weights / self.length) + self.bias

    def head(self) -> LinearHead:
        """The head as it is now, on the features themselves."""
        weights = self.weights.numpy() / np.float32(self.length)
        return LinearHead(self.classes, weights, self.bias.numpy())


@dataclass(frozen=True, eq=False)
class Learning:
    """A backbone under training."""

    model: Any
    layers: Sequence[Sequence[str]]
    """Names of the layers that learn, block by block, the one nearest to the output first."""


@dataclass(frozen=True, eq=False)
class Network(Learning):
    """The same with its head."""

    top: SoftmaxTop


@dataclass(frozen=True, eq=False)
class Entry:
    """Where a step enters a network: at its images, or above the part that is frozen."""

    run: Callable[..., Any]
    """(a batch, training=…) → features (n, D); called while a graph is built."""
    shape: tuple[int, ...]
    """Of what stands for an image in a batch."""
    dtype: str
    changes: Augmenter
    """Of a batch, within the step."""

    @staticmethod
    def at_images(model: Any, changes: Augmenter) -> "Entry":
        """Raw RGB goes in."""
        return Entry(model, tuple(model.input_shape[1:]), "uint8", changes)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a network is taught with labels."""

    learned: Labelled
    held_out: Labelled
    """Those that decide which epoch is the best."""
    teacher: Teacher | None
    """None where every class has images."""
    entry: Entry
    """For what the sources above give."""
    classes: int
    """C"""

    @property
    def labels(self) -> int:
        """How many numbers are the label of an image that was mixed; 0 where none are."""
        return self.classes if self.entry.changes.mixes else 0


def learner(
    network: Network,
    lesson: Lesson,
    options: TrainingOptions,
    distribution: Distribution = ALONE,
) -> Learner:
    """Trains a network on labelled images; inside `training_mode` only.

    Args:
        network: changed in place.
        lesson: what from, and where that enters the network.
        options: learning rates, smoothing.
        distribution: the devices that share the steps.
    """
    top = [network.top.weights, network.top.bias]
    with distribution.scope():
        groups = groups_of(network.model, network.layers, top, options)
    entry, held_out, changes = lesson.entry, lesson.held_out, lesson.entry.changes
    infer = inference(entry)

    def measure(check: Check) -> Score:
        head = network.top.head()

        def logits_of(source: Source, check: Check) -> NDArray[np.float32]:
            return head.logits(all_features(infer, source, check))

        return measured(distribution.logits(logits_of, held_out.source, check), held_out.columns)

    slots = [variable for group in groups for variable in group.optimizer.variables]
    return Learner(
        distribution.compiled(_parts(network, groups, lesson, options)),
        measure,
        [*moving(network.model, network.layers), *top],
        [*slots, *random_states(network.model), *changes.generators],
        begin=changes.begin,
    )


def measured(logits: NDArray[np.float32], columns: Columns) -> Score:
    """Accuracy and mean cross-entropy."""
    from scipy.special import log_softmax

    given = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(columns)), columns]
    return Score(float((logits.argmax(axis=1) == columns).mean()), float(given.mean()))


def all_features(infer: Callable[[Any], Any], source: Source, check: Check) -> NDArray[np.float32]:
    """Features (n, D) of images, a batch at a time."""
    found = []
    for batch in source.batches(np.arange(len(source)), MEASURED_AT_ONCE):
        found.append(infer(batch).numpy())
        check()
    return np.concatenate(found)


def inference(entry: Entry) -> Callable[[Any], Any]:
    """A batch of what enters → features (n, D), as in prediction."""
    import tensorflow as tf

    @tf.function(input_signature=[batch_of(entry)])  # type: ignore[untyped-decorator]
    def infer(batch: Any) -> Any:
        return tf.cast(entry.run(tf.cast(batch, tf.float32), training=False), tf.float32)

    return infer  # type: ignore[no-any-return]


def batch_of(entry: Entry) -> Any:
    """What a step is given of images: a `tf.TensorSpec`."""
    import tensorflow as tf

    return tf.TensorSpec((None, *entry.shape), entry.dtype)


def _parts(
    network: Network, groups: Sequence[Group], lesson: Lesson, options: TrainingOptions
) -> Parts:
    import tensorflow as tf

    top, entry, teacher, classes = network.top, lesson.entry, lesson.teacher, lesson.classes

    def change(batch: Any, columns: Any) -> tuple[Any, Any]:
        images = entry.changes.change(tf.cast(batch, tf.float32))
        return entry.changes.mix(images, tf.one_hot(columns, classes))

    def measure(images: Any, targets: Any) -> tuple[Any, Any]:
        smooth = targets * (1 - options.label_smoothing) + options.label_smoothing / classes
        logits = top.logits(tf.cast(entry.run(images, training=True), tf.float32))
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(smooth, logits))
        if teacher is not None:
            said = teacher.logits(images)
            loss += teacher.weight * losses.distillation(said, logits, teacher.temperature)
        right = tf.argmax(logits, axis=1) == tf.argmax(targets, axis=1)
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    return Parts(change, measure, groups, options.clip_norm, batch_of(entry))
