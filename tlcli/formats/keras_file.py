"""keras: one `.keras` file; class names under "classes" in its metadata.json."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.formats.source import Source


def write(source: Source, path: Path) -> None:
    """The classifier is in this format already."""
    source.archive.rename(path)


def run(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (n, C) of images (n, S, S, 3), by Keras."""
    keras = backbones.keras_module()
    model = keras.saving.load_model(str(path), compile=False, safe_mode=True)
    return np.asarray(model(images, training=False), np.float32)
