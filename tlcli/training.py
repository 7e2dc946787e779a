"""Everything with gradients through a backbone.

The loop is our own rather than `fit` for three reasons: head and backbone have different learning
rates, BatchNormalization and dropout stay in inference mode whatever layers are trainable, and the
order of the images follows from (seed, epoch) alone.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from tlcli import backbones, images
from tlcli.config import Progress, TrainingOptions
from tlcli.errors import BadImage, DataError, UsageError
from tlcli.heads import LinearHead
from tlcli.images import LabelledImage

log = logging.getLogger(__name__)

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Features (n, D) → logits (n, C)."""
Resolve = Callable[[NDArray[np.float32], NDArray[np.int64]], Logits]
"""Features (n, D) of the training images and their class columns (n,) → what a head would say."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave."""

    number: int
    loss: float
    """Mean cross-entropy on the training images while they were learned."""
    validation: "Measured"
    """On the held-out images after the epoch."""


@dataclass(frozen=True, order=True)
class Measured:
    """A state is better with a higher accuracy, and among equals with a smaller loss."""

    accuracy: float
    negative_loss: float
    """Mean cross-entropy, negative so that more is better."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The best state that training went through, as measured on the held-out images."""

    head: LinearHead
    start: Measured
    """Before the first step."""
    epochs: tuple[Epoch, ...]

    @property
    def best(self) -> Measured:
        """Of the state that was kept."""
        return max([self.start, *(epoch.validation for epoch in self.epochs)])


def layers_to_train(model: Any, backbone: str, unfreeze: str) -> list[str]:
    """Names of the layers that `unfreeze` means, in model order.

    Args:
        model: the backbone.
        backbone: its name in the table.
        unfreeze: a number of blocks counted from the output, `all`, or a layer-name prefix (that
            layer and all that follow).

    Raises:
        UsageError: nothing matches; the message lists the blocks.
    """
    blocks = backbones.blocks(model, backbone)
    if unfreeze == "all":
        return [layer for block in blocks for layer in block.layers]
    if unfreeze.isdecimal() and 1 <= int(unfreeze) <= len(blocks):
        return [layer for block in blocks[-int(unfreeze) :] for layer in block.layers]
    names = [layer for block in blocks for layer in block.layers]
    matches = [index for index, name in enumerate(names) if name.startswith(unfreeze)]
    if not unfreeze or unfreeze.isdecimal() or not matches:
        listed = ", ".join(block.name for block in blocks)
        raise UsageError(
            f"Expected a number of blocks from 1 to {len(blocks)}, `all`, or the beginning of a "
            f"layer's name. Received: unfreeze={unfreeze!r}. The blocks of {backbone}: {listed}."
        )
    return names[matches[0] :]


def train(
    model: Any,
    start: LinearHead,
    layers: Sequence[str],
    training: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
    options: TrainingOptions,
    progress: Progress,
    resolve: Resolve | None = None,
    inference_mode: bool = True,
) -> Trained:
    """Train layers of a backbone together with its head; the model ends with the best weights.

    Args:
        model: the backbone, raw RGB (n, S, S, 3) → features (n, D); changed in place.
        start: the head to start from.
        layers: names of the backbone's layers that learn.
        training: images to learn from; those that do not decode are passed over.
        validation: images that decide which epoch is kept.
        options: epochs, learning rates, batch size, patience, seed.
        progress: told the phase "epoch k/n".
        resolve: solves the head that will be published; None publishes the trained one. Epochs are
            compared by the head that will be published.
        inference_mode: run the backbone as in prediction: no dropout, and BatchNormalization
            keeps its statistics (its scale and offset learn where their layer does). False for
            training from random weights.

    Raises:
        DataError: there is nothing to validate on.
        UsageError: the loss is no longer finite.
    """
    if not validation:
        raise DataError(
            f"Expected enough images to hold some out for validation. Received: {len(training)} in "
            f"{len(start.classes)} classes, of which none is held out. Add images."
        )
    trainer = _Trainer.of(model, start, layers, options, inference_mode)
    pictures = _Pictures(model.input_shape[1], start.classes, options.batch_size)

    def measure() -> Measured:
        logits: Logits = trainer.head(start.classes).logits
        if resolve is not None:
            logits = resolve(*trainer.features(pictures.batches(training)))
        return _measured(logits, *trainer.features(pictures.batches(validation)))

    snapshot = trainer.snapshot()
    start_measured = best = measure()
    epochs: list[Epoch] = []
    since_best = 0
    for number in range(1, options.epochs + 1):
        order = np.random.default_rng([options.seed, number]).permutation(len(training))
        shuffled = [training[index] for index in order]
        phase = f"epoch {number}/{options.epochs}"
        loss = trainer.epoch(pictures.batches(shuffled), len(shuffled), phase, progress)
        measured = measure()
        epochs.append(Epoch(number, loss, measured))
        log.info("%s: loss %.4f, validation accuracy %.4f", phase, loss, measured.accuracy)
        since_best += 1
        if measured > best:
            snapshot, best, since_best = trainer.snapshot(), measured, 0
        if since_best == options.patience:
            break
    trainer.restore(snapshot)
    return Trained(trainer.head(start.classes), start_measured, tuple(epochs))


Batches = Iterable[tuple[NDArray[np.float32], NDArray[np.int64]]]


@dataclass(frozen=True)
class _Pictures:
    """Batches of decoded images with the column of their class."""

    size: int
    classes: tuple[str, ...]
    batch_size: int

    def batches(
        self, wanted: Sequence[LabelledImage]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        column = {name: index for index, name in enumerate(self.classes)}
        decoded = images.decode_many(wanted, self.size)
        pixels: list[NDArray[np.uint8]] = []
        labels: list[int] = []
        for image, picture in zip(wanted, decoded, strict=True):
            if isinstance(picture, BadImage):
                continue
            pixels.append(picture)
            labels.append(column[image.label])
            if len(pixels) == self.batch_size:
                yield np.array(pixels, np.float32), np.array(labels, np.int64)
                pixels, labels = [], []
        if pixels:
            yield np.array(pixels, np.float32), np.array(labels, np.int64)


def _measured(
    logits_of: Logits, vectors: NDArray[np.float32], columns: NDArray[np.int64]
) -> Measured:
    logits = logits_of(vectors).astype(np.float64)
    given = log_softmax(logits, axis=1)[np.arange(len(columns)), columns]
    return Measured(float((logits.argmax(axis=1) == columns).mean()), float(given.mean()))


@dataclass(frozen=True, eq=False)
class _Trainer:
    """A backbone with its head, and the two compiled functions that use them."""

    model: Any
    weights: Any
    bias: Any
    step: Any
    """(images, labels) → loss, one step of both optimizers."""
    infer: Any
    """images → features."""

    @staticmethod
    def of(
        model: Any,
        start: LinearHead,
        layers: Sequence[str],
        options: TrainingOptions,
        inference_mode: bool,
    ) -> "_Trainer":
        keras = backbones.keras_module()
        keras.utils.set_random_seed(options.seed)
        weights, bias = keras.Variable(start.weights), keras.Variable(start.bias)
        learning = [v for name in layers for v in model.get_layer(name).trainable_variables]
        slow = options.lr * options.backbone_lr_factor
        groups = [
            ([weights, bias], keras.optimizers.Adam(options.lr)),
            (learning, keras.optimizers.Adam(slow)),
        ]
        step, infer = _compiled(model, weights, bias, groups, inference_mode)
        return _Trainer(model, weights, bias, step, infer)

    def epoch(self, batches: Batches, total: int, phase: str, progress: Progress) -> float:
        """Learn from every batch once; the mean loss."""
        loss, done = 0.0, 0
        progress(phase, 0, total)
        for pixels, labels in batches:
            loss += float(self.step(pixels, labels)) * len(labels)
            done += len(labels)
            progress(phase, done, total)
        if not np.isfinite(loss):
            raise UsageError(
                f"Expected a finite loss. Received: {loss} in {phase}. Use a smaller --lr."
            )
        return loss / total

    def features(self, batches: Batches) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Feature vectors (n, D) and class columns (n,) of images."""
        pairs = [(self.infer(pixels).numpy(), labels) for pixels, labels in batches]
        return np.concatenate([v for v, _ in pairs]), np.concatenate([c for _, c in pairs])

    def snapshot(self) -> list[NDArray[np.float32]]:
        """Copies of all weights, the head's last."""
        return [*self.model.get_weights(), self.weights.numpy(), self.bias.numpy()]

    def restore(self, snapshot: list[NDArray[np.float32]]) -> None:
        """Set all weights to those of a snapshot."""
        self.model.set_weights(snapshot[:-2])
        self.weights.assign(snapshot[-2])
        self.bias.assign(snapshot[-1])

    def head(self, classes: tuple[str, ...]) -> LinearHead:
        """The head as it is now."""
        return LinearHead(classes, self.weights.numpy(), self.bias.numpy())


def _compiled(
    model: Any, weights: Any, bias: Any, groups: Sequence[tuple[Any, Any]], inference_mode: bool
) -> tuple[Any, Any]:
    import tensorflow as tf

    for variables, optimizer in groups:
        optimizer.build(variables)
    shape = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)

    @tf.function(input_signature=[shape])  # type: ignore[untyped-decorator]
    def infer(pixels: Any) -> Any:
        return model(pixels, training=False)

    @tf.function(input_signature=[shape, tf.TensorSpec((None,), tf.int64)])  # type: ignore[untyped-decorator]
    def step(pixels: Any, labels: Any) -> Any:
        variables = [variable.value for group, _ in groups for variable in group]
        with tf.GradientTape() as tape:
            logits = model(pixels, training=not inference_mode) @ weights + bias
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, variables)
        for group, optimizer in groups:
            optimizer.apply(gradients[: len(group)], group)
            gradients = gradients[len(group) :]
        return loss

    return step, infer
