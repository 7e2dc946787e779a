"""savedmodel: TensorFlow's folder; class names in assets.extra/labels.txt."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.formats.source import IMAGES, LABELS, OUTPUT, Source

ENTRIES = ("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra")
"""All that such a folder holds."""


def write(source: Source, path: Path) -> None:
    """Write the folder with the signature `serving_default`: image → probabilities."""
    write_graph(source.model(), path)
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / LABELS).write_bytes(source.labels)
    (extra / IMAGES).write_text(source.drawing, "utf-8")


def write_graph(model: Any, path: Path) -> None:
    """Write a `keras.Model` with one input and one output as a SavedModel.

    Keras' own export writes every weight twice.
    """
    import tensorflow

    image = tensorflow.TensorSpec(model.input_shape, tensorflow.float32, name="image")
    module = tensorflow.Module()
    module.weights = [variable.value for variable in model.variables]
    module.serve = tensorflow.function(
        lambda image: {OUTPUT: model(image, training=False)}, input_signature=[image]
    )
    tensorflow.saved_model.save(module, str(path), signatures=module.serve)


def run(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (n, C) of images (n, S, S, 3), by TensorFlow."""
    backbones.keras_module()
    import tensorflow

    serve = tensorflow.saved_model.load(str(path)).signatures["serving_default"]
    return np.asarray(serve(image=tensorflow.constant(images))[OUTPUT].numpy(), np.float32)
