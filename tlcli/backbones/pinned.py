"""Backbones whose weights are pinned, prepared without TensorFlow: in a second, not in ten.

What Keras says of such a network is kept beside this module, in an archive that
`scripts/pin_backbones` writes; a test compares it with what Keras says now. The weights come from
their package.
"""

import json
import logging
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import files
from tlcli.backbones import archives, lite, lite_openvino, openvino_ir, probing, weights_files
from tlcli.backbones.openvino_ir import PRECISIONS
from tlcli.backbones.stored import (
    CLASSIFIER,
    MODEL,
    OPENVINO_FILES,
    Drawing,
    StoredBackbone,
)
from tlcli.backbones.storing import Function, described, require_room
from tlcli.backbones.table import DEFAULT_BACKBONE, architecture
from tlcli.backbones.weights import Imagenet, Weights
from tlcli.errors import EngineUnavailable

log = logging.getLogger(__name__)

PINNED = ((DEFAULT_BACKBONE, 96), (DEFAULT_BACKBONE, 224))
"""Networks and the side of their images: those of `demo` and of photographs."""

PROBES = 4
"""Images whose features by Keras are kept."""


@dataclass(frozen=True, eq=False)
class Pinned:
    """What Keras says of a network."""

    function: Function
    keras: str
    """The version that said it."""
    groups: dict[str, str]
    """Where in an HDF5 file Keras looks for a layer → the layer's name, in the order of layers."""
    model: Any
    """The serialised network."""
    classifier: bytes
    """Its `classifier.json`."""
    features: NDArray[np.float32]
    """(PROBES, D) of the first probe images."""


def is_pinned(name: str, image_size: int | None, weights: Weights) -> bool:
    """Whether a backbone can be prepared without TensorFlow."""
    size = image_size or architecture(name).image_size
    return (name, size) in PINNED and isinstance(weights, Imagenet)


def stored(
    name: str, image_size: int | None, precision: str, drawing: Drawing, folder: Path
) -> StoredBackbone | None:
    """Write a backbone as `store` does; None where OpenVINO cannot run it here.

    Args:
        name: with its size one of `PINNED`.
        image_size: side of its images in pixels; None for its own.
        precision: in which its features are computed.
        drawing: how images are drawn to its square, where that is not as usual.
        folder: exists and is empty.

    Raises:
        WeightsUnavailable: its package is not installed, or another version.
        StorageError: nothing could be saved.
    """
    row = architecture(name)
    kept = _pinned(name, image_size or row.image_size)
    weights = {
        layer: tuple(np.asarray(value, np.float32) for value in values)
        for layer, values in lite.imagenet_weights(row, weights_files.packaged(row)).items()
    }
    try:
        deviation = _export(kept, weights, folder, precision)
    except EngineUnavailable as error:
        log.info("%s is prepared with Keras: %s", name, error)
        for file in OPENVINO_FILES:
            (folder / file).unlink(missing_ok=True)
        return None
    layers = {group: (layer, weights.get(layer, ())) for group, layer in kept.groups.items()}
    metadata = {"keras_version": kept.keras}
    content = archives.weights_of(layers)
    archives.write_archive(folder / MODEL, metadata, kept.model, content)
    with files.written(folder / CLASSIFIER) as stream:
        stream.write(kept.classifier)
    return described(kept.function, Imagenet.label, folder, precision, drawing, deviation)


def _export(kept: Pinned, weights: lite_openvino.Weights, folder: Path, precision: str) -> float:
    """Write the OpenVINO files; how far its features are from Keras'."""
    size = kept.function.image_size
    try:
        lite_openvino.export(kept.function.name, size, weights, folder / openvino_ir.XML)
    except Exception as error:
        require_room(error, folder, kept.function.parameters)
        raise EngineUnavailable(openvino_ir.one_line(error)) from error
    images = probing.probe_images(size, PROBES)
    deviation = openvino_ir.deviation(folder, images, kept.features)
    if not deviation <= openvino_ir.TOLERANCE:
        raise EngineUnavailable(f"its features differ from Keras' by {deviation:.1e}")
    if not PRECISIONS[precision].float32:
        openvino_ir.compiled(folder, size, precision, streams=1)
    return deviation


@cache
def _pinned(name: str, size: int) -> Pinned:
    with zipfile.ZipFile(archive_of(name, size)) as archive:
        facts = json.loads(archive.read("facts.json"))
        features = np.frombuffer(archive.read("features"), "<f4")
        return Pinned(
            Function(**facts["function"]),
            facts["keras"],
            facts["groups"],
            json.loads(archive.read("model.json")),
            archive.read("classifier.json"),
            features.reshape(PROBES, facts["function"]["width"]),
        )


def archive_of(name: str, size: int) -> Path:
    """Where what Keras says of a network is kept."""
    return Path(str(resources("tlcli.backbones"))) / "pinned" / f"{name}-{size}.zip"
