"""Keras model archives written byte for byte the same each time, without Keras."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tlcli import files
from tlcli.strict import Malformed

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"

_EARLIEST_DATE = (1980, 1, 1, 0, 0, 0)


def canonical_json(value: Any) -> bytes:
    """Return JSON as UTF-8, with sorted keys and one entry a line."""
    return (files.json_text(value, indent=1, sort_keys=True) + "\n").encode()


def write_archive(path: Path, metadata: Any, config: Any, weights: bytes | memoryview) -> None:
    """Write a `.keras` file.

    Args:
        path: where to; replaced as a whole.
        metadata: versions and whatever else should travel with the model.
        config: the serialised model.
        weights: its HDF5 file.
    """
    with files.written(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        _add(archive, METADATA, json.dumps(metadata, ensure_ascii=False).encode())
        _add(archive, CONFIG, json.dumps(config).encode())
        _add(archive, WEIGHTS, weights)


def _add(archive: zipfile.ZipFile, name: str, content: bytes | memoryview) -> None:
    """Add a part, stored as it is, dated with the first day that a zip file can tell."""
    info = zipfile.ZipInfo(name, _EARLIEST_DATE)
    info.file_size = len(content)  # tells zipfile when it needs the 64-bit format
    with archive.open(info, "w") as part:
        part.write(content)


def read_weights(path: Path) -> bytes:
    """Return the HDF5 file within an archive.

    Raises:
        OSError, LookupError, ValueError, BadZipFile: it is damaged, or would not be bounded.
    """
    with zipfile.ZipFile(path) as archive:
        require_bounded(archive, path.stat().st_size)
        return archive.read(WEIGHTS)


def require_bounded(archive: zipfile.ZipFile, length: int) -> None:
    """Refuse an archive that is much larger unpacked than its length in bytes.

    Raises:
        Malformed: it is.
    """
    unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > most_unpacked(length):
        raise Malformed(f"its parts have {unpacked} bytes, far more than it has itself")


def most_unpacked(length: int) -> int:
    """Return how many bytes a file of a length may stand for."""
    return 4 * length + 2**26


def with_layers(
    weights: bytes, layers: Mapping[str, tuple[str, tuple[NDArray[np.float32], ...]]]
) -> memoryview:
    """Return a Keras HDF5 file that has some layers more.

    Args:
        weights: the file without them.
        layers: where Keras looks for a layer, "layers/dense" for example → its name, and its
            weights in Keras' order.
    """
    target = io.BytesIO()
    with h5py.File(io.BytesIO(weights), "r") as source, h5py.File(target, "w") as file:
        for key in source:
            source.copy(key, file)
        _add_layers(file, layers)
    return target.getbuffer()


def weights_of(layers: Mapping[str, tuple[str, tuple[NDArray[np.float32], ...]]]) -> memoryview:
    """Return a Keras HDF5 file of these layers alone; see `with_layers`."""
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        _add_layers(file, layers)
    return target.getbuffer()


def _add_layers(
    file: h5py.File, layers: Mapping[str, tuple[str, tuple[NDArray[np.float32], ...]]]
) -> None:
    for group, (name, values) in layers.items():
        variables = file.create_group(f"{group}/vars")
        variables.attrs["name"] = name
        for index, value in enumerate(values):
            variables.create_dataset(str(index), data=value)
