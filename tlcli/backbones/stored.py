"""A backbone on disk: written once, checked when it is read, composed with heads."""

import hashlib
import io
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tlcli import files, strict
from tlcli.backbones import archives, openvino_ir, probing
from tlcli.backbones.hdf5_layers import layer_paths
from tlcli.backbones.network import fingerprint
from tlcli.backbones.openvino_ir import DEFAULT_PRECISION, PRECISIONS
from tlcli.backbones.runtime import first_line, keras_module, loading_errors, versions
from tlcli.backbones.weights import FINE_TUNED, RANDOM
from tlcli.config import WIDEST
from tlcli.errors import EngineUnavailable, RunError, StorageError
from tlcli.strict import Malformed

log = logging.getLogger(__name__)

FORMAT = 3
"""1 could not say how images are drawn, 1 and 2 had no checksum of the description."""

_MOST_BYTES = 2**20

MANIFEST = "backbone.json"
MODEL = "model.keras"
CLASSIFIER = "classifier.json"
OPENVINO_FILES = (openvino_ir.XML, openvino_ir.WEIGHTS)

Drawing = Mapping[str, Any]
"""The choices of an `images.Square`."""

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
        drawing: how images are drawn to its square, where that is not as usual; part of the
            fingerprint.
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
    drawing: Drawing = field(default_factory=dict)

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
        if damages := self.damages():
            raise RunError(" ".join(damages))

    def damages(self) -> list[str]:
        """One message for each file that is missing, was changed, or cannot be read."""
        found = []
        for name in self.files:
            try:
                self.file(name)
            except RunError as error:
                found.append(str(error))
        return found

    def require(self, name: str, fingerprint: str) -> Self:
        """It, where it is the backbone that a round speaks of.

        Raises:
            RunError: it has another name or computes something else.
        """
        if (self.name, self.fingerprint) != (name, fingerprint):
            raise RunError(
                f"Expected the backbone {strict.shown(name)} {fingerprint[:12]}. Received: "
                f"{self.folder} with {strict.shown(self.name)} {self.fingerprint[:12]}, it was "
                "damaged. Restore it from a copy."
            )
        return self

    def copy_into(self, folder: Path) -> None:
        """Copy every file into a folder that is there.

        Raises:
            RunError: a file is missing or was changed.
            StorageError: the disk is full or the folder may not be written.
        """
        for name in self.files:
            files.copy(self.file(name), folder / name)
        files.copy(self.folder / MANIFEST, folder / MANIFEST)

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
                f"Expected the backbone's file {path}. Received: {error.strerror or error}. "
                f"Restore the file or the run from a copy."
            ) from error
        if received != expected:
            raise RunError(
                f"Expected sha256={expected[:12]}… for {path}. Received: "
                f"sha256={received[:12]}…, it was damaged. Restore it from a copy."
            )
        return path


def store(
    model: Any,
    name: str,
    weights_source: str,
    folder: Path,
    precision: str = DEFAULT_PRECISION,
    drawing: Drawing | None = None,
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

    Raises:
        UsageError: its features are not finite, or all zero.
        EngineUnavailable: the precision is bf16 and OpenVINO cannot compute it here.
        StorageError: nothing could be saved.
    """
    images = probing.probe_images(int(model.input_shape[1]))
    features = probing.features_of(model, images)
    function = function_of(model, name, features)
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(model, folder / MODEL)
    with files.written(folder / CLASSIFIER) as stream:
        stream.write(archives.canonical_json(classifier_templates(model)))
    deviation = _export_openvino(model, folder, images, features, precision)
    return described(function, weights_source, folder, precision, drawing or {}, deviation)


@dataclass(frozen=True)
class Function:
    """What is known of a network, however it is computed; see `StoredBackbone`."""

    name: str
    image_size: int
    width: int
    parameters: int
    fingerprint: str
    """Of the network alone."""
    fixed_point_bits: int


def function_of(model: Any, name: str, features: NDArray[np.float32]) -> Function:
    """What is known of a Keras model whose features of the probe images are (n, D).

    Raises:
        UsageError: they are not finite, or all zero.
    """
    return Function(
        name=name,
        image_size=int(model.input_shape[1]),
        width=int(model.output_shape[-1]),
        parameters=int(model.count_params()),
        fingerprint=fingerprint(model, name),
        fixed_point_bits=probing.fixed_point_bits(model.name, features),
    )


def described(
    function: Function,
    weights_source: str,
    folder: Path,
    precision: str,
    drawing: Drawing,
    deviation: float | None,
) -> StoredBackbone:
    """Complete a folder that has the files of a backbone by its description.

    Raises:
        StorageError: it could not be saved.
    """
    names = (MODEL, CLASSIFIER) + (OPENVINO_FILES if deviation is not None else ())
    of_all = _with_drawing(_with_precision(function.fingerprint, precision), drawing)
    stored = StoredBackbone(
        **asdict(function) | {"fingerprint": of_all},
        folder=folder,
        weights=weights_source,
        precision=precision,
        openvino_deviation=deviation,
        versions=versions(("keras", "tensorflow", "openvino")),
        files={file: files.sha256(folder / file) for file in names},
        drawing=drawing,
    )
    _write_manifest(stored)
    return stored


def _with_precision(of_function: str, precision: str) -> str:
    """The fingerprint of a backbone whose features are computed with less than f32."""
    if PRECISIONS[precision].float32:
        return of_function
    return hashlib.sha256(f"{of_function}\n{precision}\n".encode()).hexdigest()


def _with_drawing(of_function: str, drawing: Drawing) -> str:
    """The fingerprint of a backbone whose images are not drawn as usual.

    Features of other pixels cannot be mixed.
    """
    if not drawing:
        return of_function
    text = archives.canonical_json(drawing).decode()
    return hashlib.sha256(f"{of_function}\n{text}".encode()).hexdigest()


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
    with files.written(stored.folder / MANIFEST) as stream:
        stream.write(archives.canonical_json({**content, "sha256": checksum(content)}))


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of a description without its checksum."""
    return hashlib.sha256(archives.canonical_json(content)).hexdigest()


def load_stored(folder: Path) -> StoredBackbone:
    """Return the backbone stored in a folder, without TensorFlow and without its weights.

    Raises:
        RunError: there is none, its description is damaged, or a newer program wrote it.
    """
    path = folder / MANIFEST
    try:
        if folder.is_symlink():
            raise OSError("its folder is a symbolic link")
        content = strict.at_least(format=strict.whole(1, 2**31))(
            strict.json_of(strict.content_of(path, _MOST_BYTES))
        )
        if content["format"] > FORMAT:
            raise RunError(
                f"Expected a backbone of format {FORMAT} or older. Received: "
                f"format={content['format']} in {path}. Update this program."
            )
        _compare_checksum(content)
        description = _description(content)
    except FileNotFoundError as error:
        raise RunError(
            f"Expected a stored backbone. Received: {path}, no such file. "
            f"Restore the run from a copy."
        ) from error
    except (OSError, ValueError) as error:
        files.require_resources(error, path)
        raise RunError(
            f"Expected a readable description of the backbone. Received: {path}, damaged "
            f"({error}). Restore the run from a copy."
        ) from error
    return StoredBackbone(folder=folder, **description)


def _compare_checksum(content: dict[str, Any]) -> None:
    """Refuse a description that is not what was written; older ones have no checksum."""
    if content["format"] > 2 and content.pop("sha256", None) != checksum(content):
        raise Malformed("its checksum does not match")


def _description(value: Any) -> dict[str, Any]:
    """The fields of a `StoredBackbone` but its folder."""
    found = _FIELDS({"drawing": {}, **value})
    del found["format"]
    if found["precision"] not in PRECISIONS:
        raise Malformed(f"unknown precision {strict.shown(found['precision'])}")
    expected = {MODEL, CLASSIFIER}
    if found["openvino_deviation"] is not None:
        expected |= set(OPENVINO_FILES)
    if found["files"].keys() != expected or "keras" not in found["versions"]:
        raise Malformed("an entry is not listed, or one too many is")
    return found


_DRAWING = strict.mapping(strict.NAME, strict.anything)

_FIELDS = strict.table(
    format=strict.whole(1, FORMAT),
    name=strict.NAME,
    image_size=strict.whole(1, 2**14),
    width=strict.whole(1, WIDEST),
    parameters=strict.whole(0, 2**62),
    weights=strict.text(longest=10_000),
    precision=strict.NAME,
    fingerprint=strict.HEX_DIGEST,
    fixed_point_bits=strict.whole(-999, 999),
    openvino_deviation=strict.optional(strict.number(0)),
    versions=strict.mapping(strict.NAME, strict.text()),
    files=strict.mapping(strict.NAME, strict.HEX_DIGEST),
    drawing=_DRAWING,
)


def load_model(stored: StoredBackbone) -> Any:
    """Return the backbone as a `keras.Model`.

    Raises:
        RunError: its file is missing or damaged.
    """
    path = stored.folder / MODEL
    keras = keras_module()
    try:
        model = keras.saving.load_model(str(path), compile=False, safe_mode=True)
        shapes = ((None, stored.image_size, stored.image_size, 3), (None, stored.width))
        if (model.input_shape, model.output_shape) != shapes:
            raise Malformed(f"it makes {model.output_shape} of {model.input_shape}")
        return model
    except loading_errors() as error:
        files.require_resources(error, path)
        raise RunError(
            f"Expected the backbone's model. Received: {path}, which cannot be loaded "
            f"({first_line(error)}). Restore the run from a copy."
        ) from error
