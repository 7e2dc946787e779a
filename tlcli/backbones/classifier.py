"""A stored backbone and a head → an ordinary Keras model, without importing Keras."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import files
from tlcli.backbones import archives
from tlcli.backbones.stored import (
    CLASSIFIER,
    HEAD_NAME,
    MODEL,
    PROJECTION_NAME,
    StoredBackbone,
)
from tlcli.errors import RunError


def write_classifier(
    stored: StoredBackbone,
    weights: NDArray[np.float32],
    bias: NDArray[np.float32],
    classes: Sequence[str],
    path: Path,
    projection: NDArray[np.float32] | None = None,
) -> None:
    """Write backbone and head as an ordinary Keras model, without importing Keras.

    Raw RGB in 0..255 goes in, probabilities (None, C) come out; the class names are in the
    archive's metadata.json under "classes". The same arguments give the same bytes.

    Args:
        stored: the backbone, of a width D.
        weights: (D, C), or (M, C) behind a projection, float32.
        bias: (C,), float32.
        classes: the C names, in the order of the columns.
        path: ends in `.keras`.
        projection: (D, M), float32; a frozen layer ReLU(φP) between backbone and head.

    Raises:
        ValueError: shapes do not fit together, or a value is not finite.
        RunError: a file of the backbone is missing or damaged.
        StorageError: nothing could be saved.
    """
    layers: Layers = {HEAD_NAME: (np.asarray(weights, np.float32), np.asarray(bias, np.float32))}
    if projection is not None:
        layers = {PROJECTION_NAME: (projection,), **layers}
    _check_layers(stored, layers, classes)
    try:
        templates = json.loads((stored.folder / CLASSIFIER).read_bytes())
        template = templates["plain" if projection is None else "projected"]
        content = archives.with_layers(
            archives.read_weights(stored.file(MODEL)),
            {template["groups"][name]: (name, values) for name, values in layers.items()},
        )
        config = _with_widths(template["config"], layers)
    except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
        files.require_resources(error, stored.folder)
        raise RunError(
            f"Expected a stored backbone in {stored.folder}. Received: damaged ({error}). "
            f"Restore the run from a copy."
        ) from error
    metadata = {"keras_version": stored.versions["keras"], "classes": list(classes)}
    archives.write_archive(path, metadata, config, content)


Layers = dict[str, tuple[NDArray[np.float32], ...]]
"""Name of a dense layer → its weights (inputs, units), and its bias (units,) where it has one; in
the order in which they follow each other."""


def _check_layers(stored: StoredBackbone, layers: Layers, classes: Sequence[str]) -> None:
    width = stored.width
    for name, values in layers.items():
        units = values[0].shape[1] if name == PROJECTION_NAME else len(classes)
        expected = [(width, units), (units,)][: len(values)]
        if [value.shape for value in values] != expected:
            raise ValueError(
                f"Expected {name} of shapes {expected}. "
                f"Received: {[value.shape for value in values]}."
            )
        if not all(np.isfinite(value).all() for value in values):
            raise ValueError(f"Expected a finite {name}. Received: NaN or infinite values.")
        width = units


def _with_widths(config: dict[str, Any], layers: Layers) -> dict[str, Any]:
    """Return the classifier's config with layers of these widths; changes the argument."""
    by_name = {layer["config"]["name"]: layer for layer in config["config"]["layers"]}
    for name, (weights, *_) in layers.items():
        by_name[name]["config"]["units"] = weights.shape[1]
        by_name[name]["build_config"]["input_shape"] = [None, weights.shape[0]]
    return config
