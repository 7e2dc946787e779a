"""A backbone is put on disk, once, with everything that later commands need of it."""

import hashlib
import io
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import files
from tlcli.backbones import archives, openvino_ir, probing
from tlcli.backbones.hdf5_layers import layer_paths
from tlcli.backbones.network import fingerprint
from tlcli.backbones.openvino_ir import DEFAULT_PRECISION, PRECISIONS
from tlcli.backbones.reading import USUAL, Reading, facts
from tlcli.backbones.runtime import keras_module, versions
from tlcli.backbones.stored import (
    CLASSIFIER,
    FORMAT,
    HEAD_NAME,
    MANIFEST,
    MODEL,
    OPENVINO_FILES,
    PROJECTION_NAME,
    Drawing,
    StoredBackbone,
    checksum,
)
from tlcli.errors import EngineUnavailable, StorageError

log = logging.getLogger(__name__)

_USUAL_FORMAT = 3

_XML_BYTES = 2**20
"""More than OpenVINO's description of any backbone has."""


def store(
    model: Any,
    name: str,
    weights_source: str,
    folder: Path,
    precision: str = DEFAULT_PRECISION,
    drawing: Drawing | None = None,
    reading: Reading = USUAL,
) -> StoredBackbone:
    """Write a backbone and everything that later commands need of it.

    `model.keras` is the backbone itself, `openvino.xml` and `.bin` are its equal for CPUs, left
    out with a warning where OpenVINO's features differ. `classifier.json` is the serialised model
    of the backbone with a head of one unit, from which `write_classifier` composes classifiers.
    `backbone.json` comes last: a folder that has it is complete.

    Args:
        model: the backbone.
        name: its row in `BACKBONES`.
        weights_source: label of where the weights came from.
        folder: made when missing.
        precision: one of `PRECISIONS`; all but float32 OpenVINO alone computes.
        drawing: how images are drawn to its square, where that is not as usual.
        reading: what `read` made the backbone of its network.

    Raises:
        UsageError: its features are not finite, or all zero.
        EngineUnavailable: the precision is bf16 and OpenVINO cannot compute it here.
        StorageError: nothing could be saved.
    """
    images = probing.probe_images(int(model.input_shape[1]))
    features = probing.features_of(model, images)
    function = function_of(model, name, features, reading)
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(model, folder / MODEL)
    with files.written(folder / CLASSIFIER) as stream:
        stream.write(archives.canonical_json(classifier_templates(model)))
    deviation = _export_openvino(model, folder, images, features, precision)
    drawn = drawing or {}
    return described(function, weights_source, folder, precision, drawn, deviation, reading)


@dataclass(frozen=True)
class Function:
    """What is known of a network, however it is computed; see `StoredBackbone`."""

    name: str
    image_size: int
    width: int
    parameters: int
    fingerprint: str
    """Of the network alone, and of how it is read."""
    fixed_point_bits: int


def function_of(
    model: Any, name: str, features: NDArray[np.float32], reading: Reading = USUAL
) -> Function:
    """What is known of a Keras model whose features of the probe images are (n, D).

    Raises:
        UsageError: they are not finite, or all zero.
    """
    return Function(
        name=name,
        image_size=int(model.input_shape[1]),
        width=int(model.output_shape[-1]),
        parameters=int(model.count_params()),
        fingerprint=_with_choices(fingerprint(model, name), facts(model, reading)),
        fixed_point_bits=probing.fixed_point_bits(model.name, features),
    )


def described(
    function: Function,
    weights_source: str,
    folder: Path,
    precision: str,
    drawing: Drawing,
    deviation: float | None,
    reading: Reading = USUAL,
) -> StoredBackbone:
    """Complete a folder that has the files of a backbone by its description.

    Raises:
        StorageError: it could not be saved.
    """
    names = (MODEL, CLASSIFIER) + (OPENVINO_FILES if deviation is not None else ())
    of_all = _with_choices(_with_precision(function.fingerprint, precision), drawing)
    stored = StoredBackbone(
        **asdict(function) | {"fingerprint": of_all},
        folder=folder,
        weights=weights_source,
        precision=precision,
        openvino_deviation=deviation,
        versions=versions(("keras", "tensorflow", "openvino")),
        files={file: files.sha256(folder / file) for file in names},
        drawing=drawing,
        reading=reading,
    )
    _write_manifest(stored)
    return stored


def _with_precision(of_function: str, precision: str) -> str:
    """The fingerprint of a backbone whose features are computed with less than f32."""
    if PRECISIONS[precision].float32:
        return of_function
    return hashlib.sha256(f"{of_function}\n{precision}\n".encode()).hexdigest()


def _with_choices(of_function: str, *choices: Mapping[str, Any]) -> str:
    """The fingerprint of a backbone whose images are not drawn, or that is not read, as usual.

    Features of other pixels, or of other layers, cannot be mixed.
    """
    for unusual in filter(None, choices):
        text = archives.canonical_json(unusual).decode()
        of_function = hashlib.sha256(f"{of_function}\n{text}".encode()).hexdigest()
    return of_function


def _export_openvino(
    model: Any,
    folder: Path,
    images: NDArray[np.uint8],
    features: NDArray[np.float32],
    precision: str,
) -> float | None:
    """Write the OpenVINO files; how far its features are from Keras', None where left out."""
    try:
        openvino_ir.export(model, folder)
        deviation = openvino_ir.deviation(folder, images, features)
        if not deviation <= openvino_ir.TOLERANCE:
            raise EngineUnavailable(
                f"its features differ from Keras' by {deviation:.1e} of their spread, more than "
                f"{openvino_ir.TOLERANCE:g}"
            )
        if not PRECISIONS[precision].float32:
            openvino_ir.compiled(folder, images.shape[1], precision, streams=1)
    except EngineUnavailable as error:
        require_room(error.__cause__ or error, folder, int(model.count_params()))
        for file in OPENVINO_FILES:
            (folder / file).unlink(missing_ok=True)
        if not PRECISIONS[precision].float32:
            raise EngineUnavailable(
                f"Expected a backbone that OpenVINO can run in {precision}. Received: "
                f"{model.name}, {error}. Leave --precision out."
            ) from error
        log.warning("%s runs with Keras, which is slower: %s", model.name, error)
        return None
    return deviation


def require_room(error: BaseException, folder: Path, parameters: int) -> None:
    """Raise StorageError where OpenVINO could not save its files, of which it says little.

    Args:
        error: what it raised.
        folder: where it was writing.
        parameters: number of weights of the network.
    """
    if reason := files.why_full(error, folder, 4 * parameters + _XML_BYTES):
        raise StorageError(
            f"Expected to be able to write {folder / openvino_ir.WEIGHTS}. Received: {reason}. "
            "Free space, or choose a folder you may write to."
        ) from error


def _write_model(model: Any, path: Path) -> None:
    """Write what `model.save` would, without the date and without addresses in memory.

    Keras numbers objects that layers share by their addresses; `serialize_keras_object`
    spells such objects out instead.
    """
    keras = keras_module()
    metadata = {"keras_version": keras.__version__}
    config = keras.saving.serialize_keras_object(model)
    weights = _InMemory()
    model.save_weights(weights)
    archives.write_archive(path, metadata, config, weights.getbuffer())


class _InMemory(io.BytesIO):
    """What Keras takes for a file of weights: HDF5 itself may crash where a disk is full."""

    def __str__(self) -> str:
        """A name with the suffix that Keras asks for."""
        return "memory.weights.h5"


def classifier_templates(model: Any) -> dict[str, Any]:
    """Return two classifiers' configs with layers of one unit, and where their weights belong.

    They are "plain", and "projected" with a frozen layer between backbone and head.
    """
    keras = keras_module()

    def template(features: Any) -> dict[str, Any]:
        head = keras.layers.Dense(1, activation="softmax", name=HEAD_NAME)
        classifier = keras.Model(model.input, head(features), name=f"{model.name}_classifier")
        groups = {layer.name: group for group, layer in layer_paths(classifier)}
        return {
            "config": keras.saving.serialize_keras_object(classifier),
            "groups": {
                name: groups[name] for name in (PROJECTION_NAME, HEAD_NAME) if name in groups
            },
        }

    projection = keras.layers.Dense(
        1, activation="relu", use_bias=False, trainable=False, name=PROJECTION_NAME
    )
    return {"plain": template(model.output), "projected": template(projection(model.output))}


def _write_manifest(stored: StoredBackbone) -> None:
    fields = asdict(stored)
    del fields["folder"]
    content = {"format": FORMAT, **fields}
    if not stored.reading.choices:
        del content["reading"]
        content["format"] = _USUAL_FORMAT
    with files.written(stored.folder / MANIFEST) as stream:
        stream.write(archives.canonical_json({**content, "sha256": checksum(content)}))
