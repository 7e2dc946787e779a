"""Classifiers as people's own scripts make them, of Keras' layers alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support import tiny
from tlcli.backbones import keras_module

SIZE = 32
CLASSES = ("sky", "apple", "leaf")
"""Not sorted, as columns are in any order."""

Build = Callable[[], Any]


def body(inputs: Any, layers: Any) -> Any:
    """A convolution and a BatchNormalization whose statistics have moved."""
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(inputs)
    normalization = layers.BatchNormalization()
    x = normalization(x)
    normalization.moving_mean.assign(np.linspace(0, 0.2, 6))
    normalization.moving_variance.assign(np.linspace(0.5, 2, 6))
    return x


def tutorial() -> Any:
    """Augmentation, Rescaling, a frozen nested model, pooling, Dropout, one unit without more."""
    keras = keras_module()
    layers = keras.layers
    inner = keras.Input((SIZE, SIZE, 3))
    base = keras.Model(inner, body(inner, layers))
    base.trainable = False
    augmentation = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 127.5, -1)(augmentation(image))
    x = layers.GlobalAveragePooling2D()(base(x, training=False))
    return keras.Model(image, layers.Dense(1)(layers.Dropout(0.2)(x)))


def operations() -> Any:
    """`preprocess_input` inside, softmax as an operation."""
    keras = keras_module()
    image = keras.Input((SIZE, SIZE, 3))
    x = body(keras.applications.mobilenet_v2.preprocess_input(image), keras.layers)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.ops.softmax(keras.layers.Dense(4)(x)))


def hidden() -> Any:
    """Flatten, hidden Dense layers, Dropout, and no bias in the last layer."""
    keras = keras_module()
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Flatten()(body(layers.Rescaling(1 / 255)(image), layers))
    x = layers.Dropout(0.5)(layers.Dense(16, activation="relu")(x))
    x = layers.Dense(8, activation="tanh")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", use_bias=False)(x))


def sequential() -> Any:
    """A Sequential in a Sequential, built by its first images."""
    keras = keras_module()
    layers = keras.layers
    augmentation = keras.Sequential([layers.RandomZoom(0.1), layers.GaussianNoise(1.0)])
    layers_of_it = [
        *(augmentation, layers.Rescaling(1 / 255), layers.Conv2D(5, 3, activation="relu")),
        *(layers.SpatialDropout2D(0.2), layers.GlobalMaxPooling2D(), layers.Dense(3)),
        layers.Activation("softmax"),
    ]
    model = keras.Sequential(layers_of_it)
    model(np.zeros((1, SIZE, SIZE, 3), np.float32))
    return model


def sigmoid() -> Any:
    """One sigmoid unit."""
    keras = keras_module()
    image = keras.Input((SIZE, SIZE, 3))
    x = body(keras.layers.Rescaling(1 / 255)(image), keras.layers)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(1, activation="sigmoid")(x))


def convolution() -> Any:
    """A convolution of one pixel on one pixel, reshaped, as in MobileNet."""
    keras = keras_module()
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = body(layers.Rescaling(1 / 255)(image), layers)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Reshape((4,))(layers.Conv2D(4, 1)(layers.Dropout(0.1)(x)))
    return keras.Model(image, layers.Softmax()(x))


def averaged() -> Any:
    """A convolution of one pixel, whose answers are averaged over the image."""
    keras = keras_module()
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 1)(body(layers.Rescaling(1 / 255)(image), layers))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Activation("softmax")(x))


def grey() -> Any:
    """Images of one channel."""
    keras = keras_module()
    layers = keras.layers
    image = keras.Input((28, 28, 1))
    x = layers.Flatten()(body(layers.Rescaling(1 / 255)(image), layers))
    return keras.Model(image, layers.Dense(10, activation="softmax")(x))


def fixed_batch() -> Any:
    """Always four images at once."""
    keras = keras_module()
    image = keras.Input(batch_shape=(4, SIZE, SIZE, 3))
    x = body(keras.layers.Rescaling(1 / 255)(image), keras.layers)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))


def any_size() -> Any:
    """Images of any size."""
    keras = keras_module()
    image = keras.Input((None, None, 3))
    x = body(keras.layers.Rescaling(1 / 255)(image), keras.layers)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))


def same_names() -> Any:
    """Two nested models whose layers are called alike, one of them used twice."""
    keras = keras_module()
    layers = keras.layers

    def part() -> Any:
        inner = keras.Input((SIZE, SIZE, 3), name="image")
        return keras.Model(inner, layers.Conv2D(3, 3, padding="same", name="head")(inner))

    first, second = part(), part()
    image = keras.Input((SIZE, SIZE, 3), name="preprocessing")
    x = second(first(first(layers.Rescaling(1 / 255)(image))))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(3, activation="softmax")(x))


SHAPES: dict[str, Build] = {
    build.__name__: build
    for build in (
        *(tutorial, operations, hidden, sequential, sigmoid, convolution, averaged, grey),
        *(fixed_batch, same_names),
    )
}


def by_colour(classes: Sequence[str] = CLASSES) -> Any:
    """Tells the colours of `tiny.draw` apart by their mean; scales pixels itself."""
    return nearest([tiny.COLOURS[name] for name in classes], scale=1 / 255)


def by_brightness() -> Any:
    """Tells the LEVELS of grey apart where pixels are 0 to 1, which its script sees to."""
    return nearest([(level, level, level) for level in LEVELS.values()])


LEVELS = {"black": 10, "dark": 60, "medium": 110, "light": 160, "white": 210}


def nearest(colours: Sequence[tuple[int, int, int]], scale: float | None = None) -> Any:
    """Answers with the colour (0 to 255) that is nearest to the mean of an image.

    Args:
        colours: one for each column.
        scale: what a layer of the model multiplies pixels with; None for no such layer.
    """
    keras = keras_module()
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    copy, head = layers.Conv2D(3, 1), layers.Dense(len(colours), activation="softmax")
    x = copy(image if scale is None else layers.Rescaling(scale)(image))
    model = keras.Model(image, head(layers.GlobalAveragePooling2D()(x)), name="nearest")
    copy.set_weights([np.eye(3).reshape(1, 1, 3, 3), np.zeros(3)])
    means = np.array(colours) / 255
    head.set_weights([40 * means.T, -20 * (means**2).sum(axis=1)])
    return model


def draw_levels(folder: Path, count: int = 8) -> Path:
    """Draw `count` noisy pictures of each of the LEVELS into class folders."""
    for name, level in LEVELS.items():
        generator = np.random.default_rng([*name.encode()])
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(level + generator.normal(0, 10, (SIZE, SIZE, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index:03d}.png")
    return folder
