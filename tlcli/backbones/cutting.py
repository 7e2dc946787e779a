"""A classifier that was trained elsewhere → the network below its last layer, and that layer."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.backbones import preparing
from tlcli.backbones.flattening import OTHER, CannotCut, Flat, Step
from tlcli.backbones.hdf5_layers import role
from tlcli.backbones.runtime import keras_module

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# What may stand between the last layer with weights and the answers, beside an activation.
_RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze"})
_POOLING = frozenset({"GlobalAveragePooling2D"})


@dataclass(frozen=True, eq=False)
class Cut:
    """A classifier in two parts."""

    network: Any
    """A `keras.Model`: raw RGB 0 to 255 (None, S, S, 3) → features (None, D). Its layers are copies
    that stand in it directly, without those that do nothing outside of training."""
    weights: Float32
    """(D, C): C is 2 where one sigmoid unit tells two classes apart."""
    bias: Float32
    """(C,)"""
    last_layer: str
    """The layer whose columns these are."""
    activation: str
    """What the classifier makes of its logits: softmax, sigmoid, or linear and logit (of one unit)
    for nothing."""
    scales: str | None
    """The layer with which the network scales pixels itself; None where it does not."""
    half: bool
    """Whether the classifier computes in 16 bits somewhere; the copies do in 32."""


def image_size_of(model: Any, asked: int | None) -> int:
    """Side S of the square images that a classifier takes.

    Raises:
        CannotCut: it takes others, or does not say and nothing was asked for.
    """
    shape = tuple(_only(model, "inputs", "input").shape[1:])
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise CannotCut(
            "a network for images of 3 channels or 1, which come last", f"an input {shape}", OTHER
        )
    own = {side for side in shape[:2] if side}
    if asked is not None and own and asked not in own:
        raise CannotCut(
            "images of the network's own size",
            f"an input {shape} and image-size={asked}",
            f"Give --image-size {max(own)}, or leave it out.",
        )
    sides = [side or asked for side in shape[:2]]
    side = sides[0]
    if side is None or None in sides:
        raise CannotCut(
            "the size of the images with a network that takes any",
            f"an input {shape}",
            "Add --image-size PIXELS, the size it was trained with.",
        )
    if sides[1] != side:
        raise CannotCut("a network for square images", f"an input {shape}", _resized(*shape))
    return int(side)


def _resized(height: int, width: int, channels: int) -> str:
    """What makes a network for square images of one for others."""
    side = max(height, width)
    return (
        f"Put a layer in front: keras.Sequential([keras.Input(({side}, {side}, {channels})), "
        f"keras.layers.Resizing({height}, {width}), model]), and save that."
    )


Prepare = Callable[[Any], Any]
"""From raw RGB (n, S, S, 3), a Keras tensor or values, to what a network wants."""


def cut(model: Any, image_size: int, prepare: Prepare, name: str | None = None) -> Cut:
    """Take a classifier apart below its last linear layer.

    Args:
        model: a functional or sequential `keras.Model` of Keras' own layers.
        image_size: S.
        prepare: what is put in front of it.
        name: of the network; None for the model's own.

    Raises:
        CannotCut: it has another shape.
    """
    keras = keras_module()
    image = keras.Input((image_size, image_size, 3), name="image")
    flat = Flat()
    answers = flat.run(model, _given(model, prepare, image))
    _only(model, "outputs", "output")
    last, tail = _tail(flat.steps, answers)
    features = _pooled(last, tail)
    weights, bias, activation = _columns(last, tail)
    return Cut(
        keras.Model(image, features, name=name or model.name),
        weights,
        bias,
        last.named,
        activation,
        flat.scales,
        flat.half,
    )


def is_grey(model: Any) -> bool:
    """Whether a classifier takes images of one channel."""
    return bool(_only(model, "inputs", "input").shape[-1] == 1)


def _given(model: Any, prepare: Prepare, image: Any) -> Any:
    """What a classifier is given of raw RGB."""
    prepared = prepare(image)
    return preparing.grey(prepared) if is_grey(model) else prepared


def answers_of(model: Any, activation: str, prepare: Prepare, images: NDArray[np.uint8]) -> Float64:
    """Class probabilities (n, C) that a classifier itself gives of raw RGB (n, S, S, 3).

    Args:
        model: the classifier.
        activation: see `Cut`.
        prepare: what was put in front of it.
        images: in small batches, as what a large one takes of memory stays taken.
    """
    batches = (images[top : top + _BATCH] for top in range(0, len(images), _BATCH))
    tree = keras_module().tree
    found = [
        tree.flatten(model.predict_on_batch(_given(model, prepare, batch.astype(np.float32))))
        for batch in batches
    ]
    values = np.concatenate([np.asarray(one, np.float64) for (one,) in found])
    return np.asarray(_PROBABILITIES[activation](values))


_BATCH = 8


def _only(model: Any, which: str, one: str) -> Any:
    found = getattr(model, which, None) or []
    if len(found) != 1:
        raise CannotCut(f"a network with one {one}", f"{len(found)} {which}", OTHER)
    return found[0]


def _tail(steps: list[Step], answers: Any) -> tuple[Step, list[Step]]:
    """The last linear layer, and what stands behind it, the last first."""
    made = {id(step.made): step for step in steps}
    tail: list[Step] = []
    step = made.get(id(answers))
    while step is not None and not _is_linear(step):
        if not _passes(step):
            break
        tail.append(step)
        step = made.get(id(step.given))
    if step is None or not _is_linear(step):
        received = "no layer with weights" if step is None else f"the layer {step.named}"
        raise CannotCut(
            "a classifier that ends in a Dense layer, or a 1×1 convolution, and a softmax or "
            "sigmoid",
            f"{received} at its end",
            OTHER,
        )
    return step, tail


def _passes(step: Step) -> bool:
    """Whether a layer may stand behind the last one with weights."""
    weightless = not getattr(step.operation, "weights", None)
    shapes = step.kind in _RESHAPING | _POOLING
    return weightless and (shapes or _activation(step) is not None)


def _is_linear(step: Step) -> bool:
    layers, operation = keras_module().layers, step.operation
    if type(operation) is layers.Dense:
        return True
    return (
        type(operation) is layers.Conv2D
        and tuple(operation.kernel_size) == (1, 1)
        and tuple(operation.strides) == (1, 1)
        and operation.groups == 1
    )


def _activation(step: Step) -> str | None:
    """The name of the activation that a step is, or that it ends in; None where there is none."""
    function = getattr(step.operation, "activation", None)
    if function is not None:
        return str(function.__name__)
    kind = step.kind.lower()
    return kind if kind in _PROBABILITIES else None


def _pooled(last: Step, tail: list[Step]) -> Any:
    """The features (None, D): what the last layer is given, averaged where its answers are.

    An average and a linear layer may change places.
    """
    layers, features = keras_module().layers, last.given
    pools = any(step.kind in _POOLING for step in tail)
    if len(features.shape) == 2:
        return features
    if pools and len(features.shape) == 4:
        return layers.GlobalAveragePooling2D(name="pooled_features")(features)
    if math.prod(features.shape[1:-1]) == 1:
        return layers.Flatten(name="flat_features")(features)
    raise CannotCut(
        "one answer for an image",
        f"a map of answers {tuple(last.made.shape[1:])} of the layer {last.named}",
        OTHER,
    )


def _columns(last: Step, tail: list[Step]) -> tuple[Float32, Float32, str]:
    """Weights (D, C), bias (C,), and the activation behind them."""
    activation = _only_activation([last, *tail[::-1]])
    values = {role(variable): variable.numpy() for variable in last.operation.weights}
    kernel = values["kernel"]
    weights = np.asarray(kernel.reshape(-1, kernel.shape[-1]), np.float32)
    bias = np.asarray(values.get("bias", np.zeros(weights.shape[1])), np.float32)
    if weights.shape[1] > 1 and activation == "sigmoid":
        raise CannotCut(
            "one class for an image",
            f"{weights.shape[1]} sigmoid units, which may be several classes at once",
            "Adopt a model with a softmax.",
        )
    if weights.shape[1] > 1:
        return weights, bias, activation
    if activation not in _OF_ONE_UNIT:
        raise CannotCut("two classes or more", "one softmax unit, which always answers 1", OTHER)
    # softmax of (0, z) is (1 - sigmoid(z), sigmoid(z)).
    pair = np.concatenate([np.zeros_like(weights), weights], axis=1)
    return pair, np.concatenate([np.zeros_like(bias), bias]), _OF_ONE_UNIT[activation]


def _only_activation(steps: list[Step]) -> str:
    """The one activation behind the last layer, from that layer on."""
    names = [(step, _activation(step) or _LINEAR) for step in steps]
    found = [(place, name) for place, (_, name) in enumerate(names) if name != _LINEAR]
    if not found:
        return _LINEAR
    place, name = found[0]
    averaged = any(step.kind in _POOLING for step in steps[place:])
    if len(found) > 1 or name not in _PROBABILITIES or averaged:
        raise CannotCut(
            "a softmax or sigmoid, or nothing, behind the last layer",
            f"{name} behind the layer {steps[0].named}",
            OTHER,
        )
    return name


_LINEAR = "linear"
_LOGIT = "logit"
_OF_ONE_UNIT = {_LINEAR: _LOGIT, "sigmoid": "sigmoid"}


def _softmax(logits: Float64) -> Float64:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _pair(second: Float64) -> Float64:
    return np.concatenate([1 - second, second], axis=1)


_PROBABILITIES: dict[str, Callable[[Float64], Float64]] = {
    "softmax": lambda answers: answers,
    "sigmoid": _pair,
    _LINEAR: _softmax,
    _LOGIT: lambda logits: _softmax(np.concatenate([np.zeros_like(logits), logits], axis=1)),
}
"""From what a classifier answers, by its activation."""
