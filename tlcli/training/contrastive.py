"""Training without labels: SimCLR (Chen et al., ICML 2020).

Two random views of an image are to be each other's nearest among all views of a batch. The
projection above the backbone is dropped afterwards: its output has lost what the views differ in.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlcli import backbones
from tlcli.config import TrainingOptions
from tlcli.errors import UsageError
from tlcli.training import augmentation
from tlcli.training.checkpoint import Score
from tlcli.training.image_source import Check, ImageSource, Pixels
from tlcli.training.learner import (
    Learner,
    apply_gradients,
    groups_of,
    moving,
    random_states,
)
from tlcli.training.losses import nt_xent
from tlcli.training.order import Columns

TEMPERATURE = 0.2


PROJECTION = 128
"""Width of the space in which views are compared."""


LEAST_SPREAD = 0.02
"""Of the projected held-out images: 1 where they point everywhere, 0 where all are alike."""


GRACE = 2
"""Epochs in which the spread may be smaller: random networks see all images nearly alike."""


@dataclass(frozen=True, eq=False)
class Projector:
    """Two dense layers above the backbone, vectors of length 1 out.

    Each is standardised over the batch, as by BatchNormalization in the paper: the features of a
    random network have a large common mean, beside which no view differs from another.
    """

    hidden: Any
    out: Any

    @staticmethod
    def of(width: int, seed: int) -> "Projector":
        """For features of this width."""
        keras = backbones.keras_module()
        initial = keras.initializers.GlorotUniform
        hidden = keras.layers.Dense(width, use_bias=False, kernel_initializer=initial(seed))
        out = keras.layers.Dense(PROJECTION, use_bias=False, kernel_initializer=initial(seed + 1))
        hidden.build((None, width))
        out.build((None, width))
        return Projector(hidden, out)

    @property
    def variables(self) -> list[Any]:
        """Its weights."""
        return [*self.hidden.trainable_variables, *self.out.trainable_variables]

    def __call__(self, features: Any) -> Any:
        """Features (n, D) → (n, PROJECTION); called while a graph is built."""
        import tensorflow as tf

        hidden = tf.nn.relu(_standardised(self.hidden(tf.cast(features, tf.float32))))
        return tf.math.l2_normalize(_standardised(self.out(hidden)), axis=1)


def _standardised(values: Any) -> Any:
    """Each column with mean 0 and variance 1 over the rows."""
    import tensorflow as tf

    mean, variance = tf.nn.moments(values, axes=[0])
    return (values - mean) * tf.math.rsqrt(variance + 1e-8)


def learner(
    model: Any,
    layers: Sequence[Sequence[str]],
    held_out: ImageSource,
    options: TrainingOptions,
    batch_size: int,
) -> Learner:
    """Trains a backbone on images without labels; inside `training_mode` only.

    Args:
        model: the backbone, changed in place.
        layers: names of the layers that learn, block by block.
        held_out: images on which views are compared after each epoch.
        options: learning rate and seed.
        batch_size: images a step.
    """
    projector = Projector.of(int(model.output_shape[1]), options.seed)
    groups = groups_of(model, layers, projector.variables, options)
    changes = augmentation.augmenter(augmentation.VIEWS, options.seed)
    slots = [variable for group in groups for variable in group.optimizer.variables]
    return Learner(
        _step(model, projector, groups, changes, options),
        _measure(model, projector, held_out, options.seed, batch_size),
        moving(model, layers),
        [*projector.variables, *slots, *random_states(model), *changes.generators],
        whole_batches=True,
        keeps_best=False,
    )


def _step(
    model: Any, projector: Projector, groups: Any, changes: Any, options: TrainingOptions
) -> Callable[[Pixels, Columns, float], tuple[float, float]]:
    import tensorflow as tf

    shape = (None, *model.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8), tf.TensorSpec((), tf.float32)])  # type: ignore[untyped-decorator]
    def graph(pixels: Any, rate: Any) -> tuple[Any, Any]:
        images = tf.cast(pixels, tf.float32)
        views = changes.change(tf.concat([images, images], axis=0))
        with tf.GradientTape() as tape:
            first, second = tf.split(projector(model(views, training=True)), 2)
            loss, found = nt_xent(first, second, TEMPERATURE)
        apply_gradients(tape, loss, groups, rate, options.clip_norm)
        return loss, found

    def step(pixels: Pixels, columns: Columns, rate: float) -> tuple[float, float]:
        loss, found = graph(pixels, np.float32(rate))
        return float(loss), float(found)

    return step


def _measure(
    model: Any, projector: Projector, held_out: ImageSource, seed: int, batch_size: int
) -> Callable[[Check], Score]:
    """The same views of the same images after each epoch."""
    import tensorflow as tf

    changes = augmentation.augmenter(augmentation.VIEWS, seed + 1000)
    begin = [np.array(state.numpy()) for state in changes.generators]
    shape = (None, *model.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])  # type: ignore[untyped-decorator]
    def project(pixels: Any) -> tuple[Any, Any]:
        images = tf.cast(pixels, tf.float32)
        first, second = (projector(model(changes.change(images), training=False)) for _ in "ab")
        return first, second

    epochs = itertools.count(1)

    def measure(check: Check) -> Score:
        for state, value in zip(changes.generators, begin, strict=True):
            state.assign(value)
        losses, shares, vectors = [], [], []
        for pixels in held_out.batches(np.arange(len(held_out)), batch_size):
            first, second = project(pixels)
            loss, found = nt_xent(first, second, TEMPERATURE)
            losses.append(float(loss) * len(pixels))
            shares.append(float(found) * len(pixels))
            vectors.append(first.numpy())
            check()
        if next(epochs) > GRACE:
            require_spread(np.concatenate(vectors))
        return Score(sum(shares) / len(held_out), -sum(losses) / len(held_out))

    return measure


def require_spread(vectors: Any) -> None:
    """Refuse a state in which all images give the same vector: it has learned nothing to keep.

    The vectors have length 1, but for those that are so short that their length means nothing.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    spread = float(np.sqrt(max(0.0, 1 - float((vectors.mean(axis=0) ** 2).sum()))))
    if np.median(lengths) < 0.5:
        spread = 0.0
    if spread < LEAST_SPREAD:
        raise UsageError(
            "Expected different vectors for different images. Received: all are alike "
            f"(spread {spread:.4f} of 1): the training has collapsed. Use a smaller --lr, a larger "
            "--batch-size, or more varied images."
        )
