"""Training with labels: a backbone and its softmax head, by cross-entropy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.config import TrainingOptions
from tlcli.heads import LinearHead
from tlcli.training import augmentation, losses
from tlcli.training.checkpoint import Score
from tlcli.training.distribution import ALONE, Distribution
from tlcli.training.image_source import ImageSource
from tlcli.training.learner import (
    Check,
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
class Examples:
    """Images with the columns of their classes."""

    source: ImageSource
    columns: Columns
    """(n,)"""


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
class Network:
    """A backbone under training with its head."""

    model: Any
    top: SoftmaxTop
    layers: Sequence[Sequence[str]]
    """Names of the layers that learn, block by block, the one nearest to the output first."""


def learner(
    network: Network,
    held_out: Examples,
    options: TrainingOptions,
    teacher: Teacher | None,
    distribution: Distribution = ALONE,
) -> Learner:
    """Trains a network on labelled images; inside `training_mode` only.

    Args:
        network: changed in place.
        held_out: images that decide which epoch is the best.
        options: learning rates, augmentation, smoothing.
        teacher: None where every class has images.
        distribution: the devices that share the steps.
    """
    top = [network.top.weights, network.top.bias]
    with distribution.scope():
        groups = groups_of(network.model, network.layers, top, options)
    changes = augmentation.augmenter(options.augment, options.seed)
    infer = inference(network.model)

    def measure(check: Check) -> Score:
        head = network.top.head()

        def logits_of(source: ImageSource, check: Check) -> NDArray[np.float32]:
            return head.logits(all_features(infer, source, check))

        return measured(distribution.logits(logits_of, held_out.source, check), held_out.columns)

    slots = [variable for group in groups for variable in group.optimizer.variables]
    return Learner(
        distribution.compiled(_parts(network, groups, changes, options, teacher)),
        measure,
        [*moving(network.model, network.layers), *top],
        [*slots, *random_states(network.model), *changes.generators],
    )


def measured(logits: NDArray[np.float32], columns: Columns) -> Score:
    """Accuracy and mean cross-entropy."""
    from scipy.special import log_softmax

    given = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(columns)), columns]
    return Score(float((logits.argmax(axis=1) == columns).mean()), float(given.mean()))


def all_features(
    infer: Callable[[Any], Any], source: ImageSource, check: Check
) -> NDArray[np.float32]:
    """Features (n, D) of images, a batch at a time."""
    found = []
    for pixels in source.batches(np.arange(len(source)), MEASURED_AT_ONCE):
        found.append(infer(pixels).numpy())
        check()
    return np.concatenate(found)


def inference(model: Any) -> Callable[[Any], Any]:
    """Images (n, S, S, 3) uint8 → features (n, D), as in prediction."""
    import tensorflow as tf

    shape = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8)

    @tf.function(input_signature=[shape])  # type: ignore[untyped-decorator]
    def infer(pixels: Any) -> Any:
        return tf.cast(model(tf.cast(pixels, tf.float32), training=False), tf.float32)

    return infer  # type: ignore[no-any-return]


def _parts(
    network: Network,
    groups: Sequence[Group],
    changes: augmentation.Augmenter,
    options: TrainingOptions,
    teacher: Teacher | None,
) -> Parts:
    import tensorflow as tf

    model, top = network.model, network.top
    classes = int(top.bias.shape[0])

    def change(pixels: Any, columns: Any) -> tuple[Any, Any]:
        images = changes.change(tf.cast(pixels, tf.float32))
        return changes.mix(images, tf.one_hot(columns, classes))

    def measure(images: Any, targets: Any) -> tuple[Any, Any]:
        smooth = targets * (1 - options.label_smoothing) + options.label_smoothing / classes
        logits = top.logits(tf.cast(model(images, training=True), tf.float32))
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(smooth, logits))
        if teacher is not None:
            said = teacher.logits(images)
            loss += teacher.weight * losses.distillation(said, logits, teacher.temperature)
        right = tf.argmax(logits, axis=1) == tf.argmax(targets, axis=1)
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    return Parts(change, measure, groups, options.clip_norm, tuple(model.input_shape[1:]))
