"""A backbone on disk: written once, checked when it is read, composed with heads."""

import hashlib
import json
import logging
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import files
from tlcli.backbones import archives, openvino_ir
from tlcli.backbones.hdf5_layers import layer_paths
from tlcli.backbones.network import fingerprint
from tlcli.backbones.runtime import keras_module, versions
from tlcli.errors import EngineUnavailable, RunError, UsageError

log = logging.getLogger(__name__)

FORMAT = 1

MANIFEST = "backbone.json"
MODEL = "model.keras"
CLASSIFIER = "classifier.json"
OPENVINO_FILES = (openvino_ir.XML, openvino_ir.WEIGHTS)

HEAD_NAME = "head"
PROJECTION_NAME = "projection"

_FIXED_POINT_LIMIT = 2**16
_HEADROOM = 2.0
_FIXED_POINT_RANGE = (-16, 40)
_PROBE_BATCH_PIXELS = 2 * 224 * 224


@dataclass(frozen=True)
class StoredBackbone:
    """What is known of a backbone on disk without TensorFlow.

    Attributes:
        folder: where its files are.
        name: its row in `BACKBONES`.
        image_size: side of its images in pixels.
        width: length D of its feature vectors.
        parameters: number of its weights.
        weights: where they came from: "imagenet", "none" or the name of a file.
        precision: in which its features are computed, "f32" or "bf16".
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

    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises:
            RunError: a file is missing or was changed; the message names it.
        """
        for name in self.files:
            self.file(name)

    def file(self, name: str) -> Path:
        """Return the path of a file, after its bytes were compared with their checksum.

        Raises:
            RunError: the file is missing or was changed.
        """
        path, expected = self.folder / name, self.files[name]
        try:
            received = files.sha256(path)
        except OSError as error:
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
    model: Any, name: str, weights_source: str, folder: Path, precision: str = "f32"
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
        precision: "f32", or "bf16" which OpenVINO alone computes.

    Raises:
        UsageError: its features are not finite, or all zero.
        EngineUnavailable: the precision is bf16 and OpenVINO cannot compute it here.
        StorageError: nothing could be saved.
    """
    images = probe_images(int(model.input_shape[1]))
    features = _features_of(model, images)
    bits = fixed_point_bits(model.name, features)
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
    if precision == "f32":
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
        if precision != "f32":
            openvino_ir.compiled(folder, images.shape[1], precision, streams=1)
    except EngineUnavailable as error:
        for file in OPENVINO_FILES:
            (folder / file).unlink(missing_ok=True)
        if precision != "f32":
            raise EngineUnavailable(
                f"Expected a backbone that OpenVINO can run in {precision}. Received: "
                f"{model.name}, {error}. Leave --precision out."
            ) from error
        log.warning("%s runs with Keras, which is slower: %s", model.name, error)
        return None
    return deviation


def _write_model(model: Any, path: Path) -> None:
    """Write what `model.save` would, without the date and without addresses in memory.

    Keras numbers objects that layers share by their addresses; `serialize_keras_object`
    spells such objects out instead.
    """
    keras = keras_module()
    draft = path.with_name(f"draft-{path.stem}.weights.h5")
    try:
        model.save_weights(str(draft))
        metadata = {"keras_version": keras.__version__}
        config = keras.saving.serialize_keras_object(model)
        archives.write_archive(path, metadata, config, draft.read_bytes())
    finally:
        draft.unlink(missing_ok=True)


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
        raise RunError(
            f"Expected the backbone's model. Received: {path}, which cannot be loaded "
            f"({str(error).splitlines()[0]}). Restore the run from a copy."
        ) from error


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


def _features_of(model: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Keras' features (n, D) of images, in small batches: what a large one took stays taken."""
    pixels = images.shape[0] * images.shape[1] * images.shape[2]
    count = min(len(images), math.ceil(pixels / _PROBE_BATCH_PIXELS))
    batches = np.array_split(images, count)
    features = [np.asarray(model(batch, training=False), np.float32) for batch in batches]
    return np.concatenate(features)


def fixed_point_bits(name: str, features: NDArray[np.float32]) -> int:
    """Return the b with which features are rounded to q = round(φ·2^b), |q| < 2^16.

    A function of the backbone alone: the largest b that leaves a factor of 2 to 4 between
    the largest feature of the probe images and the limit. Photographs reach about as high
    as the probe images (5.9 and 5.9 with EfficientNetLite0, 5.7 and 5.6 with MobileNetV2),
    and the spread of a feature over photographs is then 10 to 11 bits.

    Args:
        name: of the backbone, for the message.
        features: (n, D), those of the probe images.

    Raises:
        UsageError: the features are not finite, or all zero.
    """
    largest = float(np.max(np.abs(features)))
    if not math.isfinite(largest) or largest == 0.0:
        raise UsageError(
            f"Expected a backbone with finite features other than zero. Received: "
            f"largest={largest} for {name} on test images. Use other weights."
        )
    bits = math.floor(math.log2(_FIXED_POINT_LIMIT / (_HEADROOM * largest)))
    return int(np.clip(bits, *_FIXED_POINT_RANGE))


def probe_images(size: int, count: int = 16) -> NDArray[np.uint8]:
    """Return (count, size, size, 3) images, the same everywhere and forever.

    In turn: colour noise enlarged from grids of 2 to 16 cells, gradients, and noise of
    single pixels. The noise comes from SHAKE-256, which no library version changes.
    """
    return np.stack([_probe_image(size, index) for index in range(count)])


def _probe_image(size: int, index: int) -> NDArray[np.uint8]:
    cells = (2, 4, 8, 16, 3, 6, 12, size)[index % 8]
    grid = _noise(cells, index)
    if index % 8 == 4:
        image = _gradient(grid[0, 0], grid[1, 1], size)
    else:
        image = _enlarged(_enlarged(grid, size, 0), size, 1)
    rounded: NDArray[np.uint8] = np.rint(image).astype(np.uint8)
    return rounded


def _gradient(
    first: NDArray[np.float64], last: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Return (size, size, 3) that goes from one colour to another, corner to corner."""
    along = np.linspace(0.0, 1.0, size)
    share = ((along[:, None] + along[None, :]) / 2)[..., None]
    return np.asarray(first * (1 - share) + last * share)


def _noise(cells: int, index: int) -> NDArray[np.float64]:
    stream = hashlib.shake_256(f"probe {index}".encode()).digest(cells * cells * 3)
    return np.frombuffer(stream, np.uint8).reshape(cells, cells, 3).astype(np.float64)


def _enlarged(grid: NDArray[np.float64], size: int, axis: int) -> NDArray[np.float64]:
    """Interpolate linearly along one axis, from corner to corner."""
    position = np.linspace(0.0, grid.shape[axis] - 1.0, size)
    lower = np.minimum(position.astype(np.int64), grid.shape[axis] - 2)
    shape = [-1 if dimension == axis else 1 for dimension in range(3)]
    share = (position - lower).reshape(shape)
    return np.asarray(grid.take(lower, axis) * (1 - share) + grid.take(lower + 1, axis) * share)
