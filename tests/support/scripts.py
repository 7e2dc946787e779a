"""Classifiers that plain Keras scripts train on photographs, as people have them.

Each trains in memory on (n, S, S, 3) raw RGB and class numbers, and returns the whole model; what
it does to pixels outside of the model is named.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlcli.backbones import keras_module

SIZE = 96
MOBILENET = "mobilenet_v2_imagenet_no_top.weights.h5"
VGG = "vgg16_imagenet_no_top.weights.h5"

Train = Callable[[Any, Any, Path], Any]


@dataclass(frozen=True)
class Script:
    """A script that trains a classifier."""

    train: Train
    suffix: str = ".keras"
    scaling: str | None = None
    """What the script does to pixels before the model sees them."""
    classes: int = 3
    tells: bool = True
    """Whether its network tells what features it expects, by a BatchNormalization at its end."""


def _applications(name: str, weights: Path) -> Any:
    constructor = getattr(keras_module().applications, name)
    base = constructor(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    base.load_weights(weights)
    base.trainable = False
    return base


def _fitted(model: Any, images: Any, numbers: Any, loss: str, epochs: int = 3) -> Any:
    model.compile("adam", loss)
    model.fit(images, numbers, batch_size=16, epochs=epochs, verbose=0)
    return model


CATEGORIES = "sparse_categorical_crossentropy"


def inside(images: Any, numbers: Any, weights: Path) -> Any:
    """MobileNetV2 behind augmentation and `preprocess_input`, all within the model."""
    keras = keras_module()
    layers = keras.layers
    augmentation = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.applications.mobilenet_v2.preprocess_input(augmentation(image))
    x = _applications("MobileNetV2", weights / MOBILENET)(x, training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, layers.Dense(3, activation="softmax")(x))
    return _fitted(model, images, numbers, CATEGORIES)


def outside(images: Any, numbers: Any, weights: Path) -> Any:
    """MobileNetV2, whose script calls `preprocess_input` before it."""
    keras = keras_module()
    layers = keras.layers
    base = _applications("MobileNetV2", weights / MOBILENET)
    pooled = layers.GlobalAveragePooling2D()
    model = keras.Sequential([base, pooled, layers.Dense(3), layers.Softmax()])
    prepared = keras.applications.mobilenet_v2.preprocess_input(images.copy())
    return _fitted(model, prepared, numbers, CATEGORIES)


def hidden(images: Any, numbers: Any, weights: Path) -> Any:
    """VGG16 with hidden Dense layers, whose script calls its `preprocess_input`."""
    keras = keras_module()
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Flatten()(_applications("VGG16", weights / VGG)(image))
    for units in (256, 128):
        x = layers.Dropout(0.3)(layers.Dense(units, activation="relu")(x))
    model = keras.Model(image, layers.Dense(3, activation="softmax")(x))
    prepared = keras.applications.vgg16.preprocess_input(images.copy())
    return _fitted(model, prepared, numbers, CATEGORIES)


def scratch(images: Any, numbers: Any, weights: Path) -> Any:
    """A Sequential network from random weights, with logits."""
    keras = keras_module()
    layers = keras.layers
    shapes = [layers.Input((SIZE, SIZE, 3)), layers.RandomZoom(0.1), layers.Rescaling(1 / 255)]
    for channels in (16, 32, 64):
        convolution = layers.Conv2D(channels, 3, use_bias=False)
        shapes += [convolution, layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()]
    shapes += [layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(3)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return _fitted(keras.Sequential(shapes), images, numbers, loss, epochs=5)


def pair(images: Any, numbers: Any, weights: Path) -> Any:
    """One sigmoid unit that tells two classes apart."""
    keras = keras_module()
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = _applications("MobileNetV2", weights / MOBILENET)(x, training=False)
    x = layers.GlobalMaxPooling2D()(x)
    model = keras.Model(image, layers.Dense(1, activation="sigmoid")(x))
    return _fitted(model, images, numbers, "binary_crossentropy")


SCRIPTS = {
    "MobileNetV2, all inside": Script(inside),
    "MobileNetV2, preprocess_input outside": Script(outside, ".h5", "-1-1"),
    "VGG16 with hidden layers": Script(hidden, ".keras", "caffe", tells=False),
    "Sequential from scratch": Script(scratch, ".h5", tells=False),
    "a sigmoid of two classes": Script(pair, classes=2, tells=False),
}

PREPARE: dict[str | None, Callable[[Any], Any]] = {
    None: lambda images: images,
    "-1-1": lambda images: keras_module().applications.mobilenet_v2.preprocess_input(images.copy()),
    "caffe": lambda images: keras_module().applications.vgg16.preprocess_input(images.copy()),
}


def probabilities(script: Script, model: Any, images: Any) -> Any:
    """(n, C) that the model itself gives for raw RGB, by what its script makes of its outputs."""
    outputs = model.predict(PREPARE[script.scaling](images), verbose=0)
    if script.train is scratch:
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
