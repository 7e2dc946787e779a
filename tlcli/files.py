"""Durable files: written aside, flushed, renamed into place; hashed; arrays in HDF5."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tlcli.errors import StorageError

Arrays = dict[str, NDArray[Any]]

_CANNOT_SAVE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EFBIG,
    errno.EIO,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
}


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the device."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def saving(target: Path) -> Iterator[None]:
    """Turn the failures of a full or forbidden disk into a StorageError that names `target`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_SAVE and not _from_hdf5(error):
            raise
        raise StorageError(
            f"Expected to be able to write {target}. Received: {error.strerror or error}. "
            "Free space, or choose a folder you may write to."
        ) from error


def _from_hdf5(error: OSError) -> bool:
    """HDF5 reports a full disk as an OSError without a useful errno."""
    return error.errno is None or "write failed" in str(error)


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it and rename it into place.

    Raises:
        StorageError: the disk is full or the folder may not be written.
    """
    with saving(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(descriptor)
    aside = Path(name)
    try:
        with saving(path):
            yield aside
            sync(aside)
            aside.chmod(0o666 & ~_umask())
            aside.replace(path)
            sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object durably."""
    with written_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def save_arrays(path: Path, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
    """Write arrays and attributes to a new HDF5 file durably; equal input gives equal bytes."""
    with written_aside(path) as aside, h5py.File(aside, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, array in arrays.items():
            file.create_dataset(name, data=array)


def load_arrays(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read what `save_arrays` wrote.

    Only plain data sets stored in this very file are read: links to other files are refused.

    Raises:
        OSError, KeyError, ValueError: the file is damaged or not of this kind.
    """
    with h5py.File(path, "r") as file:
        arrays = {name: _own_dataset(file, name)[()] for name in file}
        return arrays, dict(file.attrs)


def _own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link to elsewhere")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} is not stored in this file")
    return dataset


def text_array(texts: tuple[str, ...]) -> NDArray[Any]:
    """Texts as one array of UTF-8 bytes joined by newlines (names contain none)."""
    return np.frombuffer("\n".join(texts).encode(), dtype=np.uint8)


def texts_of(array: NDArray[Any]) -> tuple[str, ...]:
    """The inverse of `text_array`."""
    joined = array.tobytes().decode()
    return tuple(joined.split("\n")) if joined else ()
