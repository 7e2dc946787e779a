"""The networks of the table with their own top: the 1000 classes of ImageNet."""

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.backbones import hdf5_layers, lite, weights_files
from tlcli.backbones.cutting import Cut, cut
from tlcli.backbones.network import PREPARE
from tlcli.backbones.runtime import keras_module
from tlcli.backbones.table import Architecture
from tlcli.backbones.weights import Imagenet, WeightsFile

NAMES = "imagenet_classes.tsv"

Columns = tuple[NDArray[np.float32], NDArray[np.float32]]


def imagenet_classes() -> list[tuple[str, str]]:
    """Return (WordNet identifier, name) of the 1000 classes, in the order of the columns."""
    text = resources.files(__package__).joinpath(NAMES).read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return [(identifier, name) for identifier, name in rows]


def packaged_columns(row: Architecture) -> Columns:
    """Return weights (D, 1000) and bias (1000,) of a network whose weights are in a package.

    Raises:
        WeightsUnavailable: the package is not installed, or another one.
    """
    weights, bias = lite.imagenet_columns(row, weights_files.packaged(row))
    return np.ascontiguousarray(weights, np.float32), np.asarray(bias, np.float32)


def application(row: Architecture, weights: Imagenet | WeightsFile) -> Any:
    """Return a Keras application with its top of 1000 classes.

    Raises:
        WeightsUnavailable: its weights are neither here nor downloadable.
        UsageError: the file is damaged, or of another network.
    """
    weights.check()
    constructor = getattr(keras_module().applications, row.builder)
    model = constructor(include_top=True, weights=None)
    if isinstance(weights, Imagenet):
        weights_files.load_whole_application(model, row)
    else:
        weights_files.load_file(model, Path(weights.label), hdf5_layers.WITH_TOP)
    return model


def cut_application(row: Architecture, model: Any) -> Cut:
    """Take a Keras application apart, behind the preprocessing of its row."""
    return cut(model, row.image_size, PREPARE[row.preprocessing], row.name)
