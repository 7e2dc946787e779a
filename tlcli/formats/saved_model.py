"""savedmodel: TensorFlow's folder; class names in assets.extra/labels.txt."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.formats.source import LABELS, OUTPUT, Source

ENTRIES = ("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra")
"""All that such a folder holds."""


def write(source: Source, path: Path) -> None:
    """Write the folder with the signature `serving_default`: image → probabilities."""
    write_graph(source.model(), path)
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / LABELS).write_bytes(source.labels)


def write_graph(model: Any, path: Path) -> None:
    """Write a `keras.Model` with one input and one output as a SavedModel."""
    keras = backbones.keras_module()
    import tensorflow

    def serve(image: Any) -> dict[str, Any]:
        return {OUTPUT: model(image, training=False)}

    image = tensorflow.TensorSpec(model.input_shape, tensorflow.float32, name="image")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve, input_signature=[image])
    archive.write_out(str(path), verbose=False)


def run(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (n, C) of images (n, S, S, 3), by TensorFlow."""
    backbones.keras_module()
    import tensorflow

    serve = tensorflow.saved_model.load(str(path)).signatures["serving_default"]
    return np.asarray(serve(image=tensorflow.constant(images))[OUTPUT].numpy(), np.float32)
