"""What the loop trains: compiled steps over a backbone and what stands on top of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.config import TrainingOptions
from tlcli.training.adam import adamw
from tlcli.training.checkpoint import Arrays, Score
from tlcli.training.image_source import Check, Pixels
from tlcli.training.order import Columns, Order, shuffled
from tlcli.training.quick_layers import quick

MOMENTUM = 0.9
"""Of BatchNormalization while it learns its statistics: with the usual 0.99 or 0.999 they lag
behind the weights in trainings of a few hundred steps."""


@dataclass(frozen=True, eq=False)
class Learner:
    """Weights that move, and how good they are."""

    step: Callable[[NDArray[Any], Columns, float], tuple[float, float]]
    """(a batch, class columns, learning rate of the head) → mean loss and share of right answers,
    before the weights moved."""
    measure: Callable[[Check], Score]
    """On held-out images."""
    weights: Sequence[Any]
    """The variables that are the result."""
    others: Sequence[Any]
    """Further variables that a step changes: optimizer slots, random states."""
    whole_batches: bool = False
    """Whether a smaller last batch is left out."""
    keeps_best: bool = True
    """Whether the result is the best epoch, and not the last one."""
    order: Order = shuffled
    """In which order it wants the images of an epoch."""
    begin: Callable[[int], None] = lambda epoch: None
    """Called before the first step of an epoch; epoch 0 is the search for a learning rate."""

    def values(self) -> Arrays:
        """Copies of all that a step changes."""
        return [np.array(variable.numpy()) for variable in (*self.weights, *self.others)]

    def restore(self, values: Arrays) -> None:
        """Undo `values`."""
        for variable, value in zip((*self.weights, *self.others), values, strict=True):
            variable.assign(value)

    def result(self) -> Arrays:
        """Copies of the weights."""
        return [np.array(variable.numpy()) for variable in self.weights]

    def set_result(self, weights: Arrays) -> None:
        """Undo `result`."""
        for variable, value in zip(self.weights, weights, strict=True):
            variable.assign(value)


@dataclass(frozen=True, eq=False)
class Group:
    """Variables that learn at one rate."""

    variables: list[Any]
    share: float
    """Of the head's learning rate."""
    optimizer: Any


def groups_of(
    model: Any, layers: Sequence[Sequence[str]], top: list[Any], options: TrainingOptions
) -> list[Group]:
    """The head and each block of layers, with optimizers of their own.

    A block learns with factor · decay^depth of the head's rate (discriminative fine-tuning, Howard
    & Ruder, ULMFiT, ACL 2018).

    Args:
        model: the backbone.
        layers: names of the layers of each block that learns, the one nearest to the output first.
        top: the variables above the backbone.
        options: learning rates and weight decay.
    """
    factor, decay = options.backbone_lr_factor, options.layer_decay
    by_share: dict[float, list[Any]] = {1.0: list(top)}
    for depth, names in enumerate(layers):
        share = factor * decay**depth
        variables = [v for name in names for v in model.get_layer(name).trainable_variables]
        by_share.setdefault(share, []).extend(variables)
    return [
        Group(variables, share, optimizer(variables, options))
        for share, variables in by_share.items()
        if variables
    ]


def optimizer(variables: list[Any], options: TrainingOptions) -> Any:
    """AdamW for these variables, before its first step."""
    made = adamw(options.lr or 0.0, options.weight_decay)
    # Biases, scales and offsets are not decayed (He et al., Bag of Tricks, CVPR 2019).
    made.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
    made.build(variables)
    return made


def apply_gradients(tape: Any, loss: Any, groups: Sequence[Group], rate: Any, clip: float) -> None:
    """One step of every optimizer; called while a graph is built.

    Args:
        tape: the gradient tape that saw the loss.
        loss: a scalar.
        groups: what learns.
        rate: learning rate of the head, a scalar.
        clip: largest norm of all gradients together.
    """
    variables = [v.value for group in groups for v in group.variables]
    descend(tape.gradient(loss, variables), groups, rate, clip)


def descend(gradients: list[Any], groups: Sequence[Group], rate: Any, clip: float) -> None:
    """The same with the gradients of all variables, in the order of the groups."""
    import tensorflow as tf

    gradients, _ = tf.clip_by_global_norm(gradients, clip)
    for group in groups:
        group.optimizer.learning_rate.assign(rate * group.share)
        group.optimizer.apply(gradients[: len(group.variables)], group.variables)
        gradients = gradients[len(group.variables) :]


@contextmanager
def training_mode(
    model: Any, layers: Sequence[Sequence[str]], statistics: bool, mixed: bool = False
) -> Iterator[None]:
    """For the block, `model(x, training=True)` trains as it should.

    Dropout and stochastic depth below the first layer that learns are off: what is frozen gives
    the same features as in prediction. BatchNormalization is frozen with its scale and offset
    unless it is to learn its statistics.

    Args:
        model: the backbone; after the block its settings are as they were.
        layers: names of the layers that learn, block by block.
        statistics: whether BatchNormalization learns.
        mixed: whether layers compute in bfloat16; weights stay in float32.
    """
    keras = backbones.keras_module()
    learning = {name for names in layers for name in names}
    first = min(place for place, layer in enumerate(model.layers) if layer.name in learning)
    changes: list[tuple[Any, str, Any]] = []
    if mixed:
        policy = keras.DTypePolicy("mixed_bfloat16")
        changes += [(layer, "dtype_policy", policy) for layer in model.layers]
    for place, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.BatchNormalization):
            if not statistics or layer.name not in learning:
                changes.append((layer, "trainable", False))
            else:
                changes.append((layer, "momentum", min(layer.momentum, MOMENTUM)))
        elif place < first and isinstance(layer, keras.layers.Dropout):
            changes.append((layer, "rate", 0.0))
        elif place < first and type(layer).__name__ == "StochasticDepth":
            changes.append((layer, "drop_path_rate", 0.0))
    before = [getattr(layer, name) for layer, name, _ in changes]
    for layer, name, value in changes:
        setattr(layer, name, value)
    try:
        with quick(model, learning):
            yield
    finally:
        for (layer, name, _), value in zip(changes, before, strict=True):
            setattr(layer, name, value)


def begin_statistics(model: Any, pixels: Pixels) -> None:
    """Give BatchNormalization layers that have never learned the statistics of some images.

    A moving average that starts from a variance of 1 needs hundreds of steps to forget it where
    the true one is a thousand times smaller, as in deep random networks; until then predictions
    are far from what is trained.

    Args:
        model: the backbone, inside `training_mode`.
        pixels: (n, S, S, 3)
    """
    keras = backbones.keras_module()
    layers = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and _new(layer)
    ]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    if layers:
        model(pixels.astype(np.float32), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _new(layer: Any) -> bool:
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    return not mean.any() and bool((variance == 1).all())


def moving(model: Any, layers: Sequence[Sequence[str]]) -> list[Any]:
    """The weights of the layers that learn, in a fixed order."""
    return [v for names in layers for name in names for v in model.get_layer(name).weights]


def random_states(model: Any) -> list[Any]:
    """The states of the random generators inside a model (dropout)."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
