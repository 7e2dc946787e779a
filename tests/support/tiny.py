"""A tiny seeded backbone in place of the default one, and pictures that it can tell apart.

`python -m tests.support.tiny ARGUMENT…` is the command line with that backbone, for tests that need
a process of their own.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGE_SIZE = 32
COLOURS = {
    "apple": (200, 30, 40),
    "sky": (80, 140, 230),
    "leaf": (40, 160, 60),
    "sun": (240, 220, 60),
    "plum": (110, 40, 130),
}


def build(name: str, image_size: int | None, weights: object, seed: int = 0) -> Any:
    """Stands in for `tlcli.backbones.build`: three blocks, with moved BatchNormalization."""
    from tlcli.backbones import keras_module

    keras = keras_module()
    layers = keras.layers
    size = image_size or IMAGE_SIZE
    image = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0, name="preprocessing")(image)
    for number, filters in enumerate((8, 12, 16), 1):
        initializer = keras.initializers.HeNormal(seed=seed + number)
        block = f"block{number}a"
        x = layers.Conv2D(
            filters, 3, strides=2, kernel_initializer=initializer, name=f"{block}_conv"
        )(x)
        x = layers.BatchNormalization(name=f"{block}_bn")(x)
        x = layers.ReLU(name=f"{block}_relu")(x)
    model = keras.Model(image, layers.GlobalAveragePooling2D(name="pooling")(x), name=name)
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.name.endswith("_bn"):
            layer.moving_mean.assign(generator.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(generator.uniform(0.5, 2, layer.moving_variance.shape))
    return model


def draw(
    folder: Path, classes: Sequence[str], count: int = 8, seed: int = 0, contrast: float = 1.0
) -> Path:
    """Draw `count` noisy pictures of each class into class folders; less contrast is harder."""
    for name in classes:
        generator = np.random.default_rng([seed, *name.encode()])
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            noise = generator.normal(0, 25, (40, 48, 3))
            colour = 128 + contrast * (np.array(COLOURS[name]) - 128)
            pixels = np.clip(colour + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03d}.png")
    return folder


def install(replace: Callable[[str, Any], None] | None = None) -> None:
    """Replace the builder of backbones in this process; what it builds has cache keys of its own.

    Args:
        replace: sets what a dotted name stands for, for those who want to take it back.
    """
    put = replace or _replace
    put("tlcli.backbones.build", build)
    put("tlcli.backbones.prepared.FORMAT", "tiny")
    put("tlcli.backbones.pinned.PINNED", ())


def _replace(name: str, value: Any) -> None:
    module, attribute = name.rsplit(".", 1)
    setattr(importlib.import_module(module), attribute, value)


if __name__ == "__main__":
    from tlcli.cli import main

    install()
    if "OBJECTS" in os.environ:
        from tests.support import objects

        objects.install()
    sys.argv[0] = "tlcli"
    main()
