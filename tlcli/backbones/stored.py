"""A backbone on disk: checked when it is read, composed with heads."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tlcli import files, strict
from tlcli.backbones import archives, openvino_ir
from tlcli.backbones.openvino_ir import PRECISIONS
from tlcli.backbones.reading import LAYERS, USUAL, VIEWS, Reading
from tlcli.backbones.runtime import first_line, keras_module, loading_errors
from tlcli.backbones.weights import FINE_TUNED, RANDOM
from tlcli.config import WIDEST
from tlcli.errors import RunError
from tlcli.strict import Malformed

FORMAT = 4
"""1 could not say how images are drawn, 1 and 2 had no checksum of the description, 3 cannot say
which layers and views are read. What is read as usual is written as 3, which older programs know.
"""

_MOST_BYTES = 2**20

MANIFEST = "backbone.json"

MODEL = "model.keras"

CLASSIFIER = "classifier.json"

OPENVINO_FILES = (openvino_ir.XML, openvino_ir.WEIGHTS)

Drawing = Mapping[str, Any]
"""The choices of an `images.Square`."""

HEAD_NAME = "head"

PROJECTION_NAME = "projection"


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
        reading: which layers and views make a feature vector; part of the fingerprint.
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
    reading: Reading = USUAL

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
    found = _FIELDS({"drawing": {}, "reading": asdict(USUAL), **value})
    del found["format"]
    if found["precision"] not in PRECISIONS:
        raise Malformed(f"unknown precision {strict.shown(found['precision'])}")
    if found["reading"].layers not in LAYERS:
        raise Malformed(f"unknown layers {strict.shown(found['reading'].layers)}")
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
    weights=strict.any_text,
    precision=strict.NAME,
    fingerprint=strict.HEX_DIGEST,
    fixed_point_bits=strict.whole(-999, 999),
    openvino_deviation=strict.optional(strict.number(0)),
    versions=strict.mapping(strict.NAME, strict.text()),
    files=strict.mapping(strict.NAME, strict.HEX_DIGEST),
    drawing=_DRAWING,
    reading=strict.record(Reading, layers=strict.NAME, views=strict.whole(VIEWS[0], VIEWS[-1])),
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
