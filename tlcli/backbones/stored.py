"""A backbone on disk: written once, checked when it is read, composed with heads."""

import hashlib
import io
import json
import logging
import zipfile
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
from tlcli.backbones.runtime import keras_module, versions
from tlcli.backbones.weights import FINE_TUNED, RANDOM
from tlcli.errors import EngineUnavailable, RunError, StorageError

log = logging.getLogger(__name__)

FORMAT = 1

MANIFEST = "backbone.json"
MODEL = "model.keras"
CLASSIFIER = "classifier.json"
OPENVINO_FILES = (openvino_ir.XML, openvino_ir.WEIGHTS)

HEAD_NAME = "head"
PROJECTION_NAME = "projection"

_XML_BYTES = 2**20
"""More than OpenVINO's description of any backbone has."""


@dataclass(frozen=True)
class StoredBackbone:
    """What is known of a backbone on disk without TensorFlow.

    Attributes:
        folder: where its files are.
        name: its row in `BACKBONES`.
        image_size: side of its images in pixels.
        width: length D of its feature vectors.
        parameters: number of its weights.
        weights: where they came from: "imagenet", "none" (random), "fine-tuned", "simclr", or a
            file.
        precision: in which its features are computed, one of `PRECISIONS`.
        fingerprint: SHA-256 over its function and precision, see `fingerprint`.
        fixed_point_bits: features are rounded to multiples of 2**-bits.
        openvino_deviation: largest difference between OpenVINO's and Keras' features in units of
            their spread, see `openvino_ir.deviation`; None where OpenVINO cannot run it.
        versions: of keras, tensorflow and openvino, when it was stored.
        files: SHA-256 of every file by name.
    """

    folder: Path
    name: str
    image_size: int
    width: int
    parameters: int
    weights: str
    precision: str
    fingerprint: str
    fixed_point_bits: int
    openvino_deviation: float | None
    versions: Mapping[str, str]
    files: Mapping[str, str]

    @property
    def trained(self) -> bool:
        """Whether it has learned the images of a run with their labels."""
        return self.weights in (RANDOM, FINE_TUNED)

    @property
    def in_float32(self) -> bool:
        """Whether its features are computed in float32, as by Keras and in exported files."""
        return PRECISIONS[self.precision].float32

    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises:
            RunError: a file is missing or was changed; the message names it.
        """
        for name in self.files:
            self.file(name)

    def copy_into(self, folder: Path) -> None:
        """Copy every file into a folder that is there.

        Raises:
            RunError: a file is missing or was changed.
            StorageError: the disk is full or the folder may not be written.
        """
        self.verify()
        files.copy_folder(self.folder, folder)

    def file(self, name: str) -> Path:
        """Return the path of a file, after its bytes were compared with their checksum.

        Raises:
            RunError: the file is missing or was changed.
        """
        path, expected = self.folder / name, self.files[name]
        try:
            received = files.sha256(path)
        except OSError as error:
            files.require_resources(error, path)
            raise RunError(
                f"Expected the backbone's file {path}. Received: {error.strerror}. "
                f"Restore the file or the run from a copy."
            ) from error
        if received != expected:
            raise RunError(
                f"Expected sha256={expected[:12]}… for {path}. Received: "
                f"sha256={received[:12]}…, it was damaged. Restore it from a copy."
            )
        return path


def store(
    model: Any, name: str, weights_source: str, folder: Path, precision: str = DEFAULT_PRECISION
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

    Raises:
        UsageError: its features are not finite, or all zero.
        EngineUnavailable: the precision is bf16 and OpenVINO cannot compute it here.
        StorageError: nothing could be saved.
    """
    images = probing.probe_images(int(model.input_shape[1]))
    features = probing.features_of(model, images)
    bits = probing.fixed_point_bits(model.name, features)
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(model, folder / MODEL)
    with files.written(folder / CLASSIFIER) as stream:
        stream.write(archives.canonical_json(_classifier_templates(model)))
    deviation = _export_openvino(model, folder, images, features, precision)
    names = (MODEL, CLASSIFIER) + (OPENVINO_FILES if deviation is not None else ())
    stored = StoredBackbone(
        folder=folder,
        name=name,
        image_size=int(model.input_shape[1]),
        width=int(model.output_shape[-1]),
        parameters=int(model.count_params()),
        weights=weights_source,
        precision=precision,
        fingerprint=_with_precision(fingerprint(model, name), precision),
        fixed_point_bits=bits,
        openvino_deviation=deviation,
        versions=versions(("keras", "tensorflow", "openvino")),
        files={file: files.sha256(folder / file) for file in names},
    )
    _write_manifest(stored)
    return stored


def _with_precision(of_function: str, precision: str) -> str:
    """The fingerprint of a backbone whose features are computed with less than f32."""
    if PRECISIONS[precision].float32:
        return of_function
    return hashlib.sha256(f"{of_function}\n{precision}\n".encode()).hexdigest()


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
        _require_room(error, model, folder)
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


def _require_room(error: EngineUnavailable, model: Any, folder: Path) -> None:
    """Raise StorageError where OpenVINO could not save its files, of which it says little."""
    cause = error.__cause__ or error
    if reason := files.why_full(cause, folder, 4 * int(model.count_params()) + _XML_BYTES):
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


def _classifier_templates(model: Any) -> dict[str, Any]:
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
    with files.written(stored.folder / MANIFEST) as stream:
        stream.write(archives.canonical_json({"format": FORMAT, **fields}))


def load_stored(folder: Path) -> StoredBackbone:
    """Return the backbone stored in a folder, without TensorFlow and without its weights.

    Raises:
        RunError: there is none, its description is damaged, or a newer program wrote it.
    """
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_bytes())
        version = fields.pop("format")
        if version > FORMAT:
            raise RunError(
                f"Expected a backbone of format {FORMAT} or older. Received: format={version} "
                f"in {path}. Update this program."
            )
        return _checked(StoredBackbone(folder=folder, **fields))
    except FileNotFoundError as error:
        raise RunError(
            f"Expected a stored backbone. Received: {path}, no such file. "
            f"Restore the run from a copy."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        files.require_resources(error, path)
        raise RunError(
            f"Expected a readable description of the backbone. Received: {path}, damaged "
            f"({error}). Restore the run from a copy."
        ) from error


def _checked(stored: StoredBackbone) -> StoredBackbone:
    """Return it, or raise TypeError or ValueError when a field cannot be meant."""
    texts = (
        stored.name,
        stored.weights,
        stored.precision,
        stored.fingerprint,
        *stored.versions.values(),
    )
    numbers = (stored.image_size, stored.width, stored.parameters, stored.fixed_point_bits)
    if not all(isinstance(text, str) for text in (*texts, *stored.files.values())):
        raise TypeError("a field is not a text")
    if not all(type(number) is int for number in numbers):
        raise TypeError("a field is not a whole number")
    if not isinstance(stored.openvino_deviation, float | None):
        raise TypeError("the deviation is not a number")
    expected = {MODEL, CLASSIFIER}
    if stored.openvino_deviation is not None:
        expected |= set(OPENVINO_FILES)
    if not (expected <= set(stored.files) and "keras" in stored.versions):
        raise ValueError("an entry is not listed")
    if stored.precision not in PRECISIONS:
        raise ValueError(f"unknown precision {stored.precision!r}")
    if any(Path(name).name != name for name in stored.files):
        raise ValueError("a file lies outside the folder")
    return stored


def load_model(stored: StoredBackbone) -> Any:
    """Return the backbone as a `keras.Model`.

    Raises:
        RunError: its file is missing or damaged.
    """
    path = stored.folder / MODEL
    keras = keras_module()
    try:
        return keras.saving.load_model(str(path), compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        files.require_resources(error, path)
        raise RunError(
            f"Expected the backbone's model. Received: {path}, which cannot be loaded "
            f"({str(error).splitlines()[0]}). Restore the run from a copy."
        ) from error
