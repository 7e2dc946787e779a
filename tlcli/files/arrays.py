"""Arrays and attributes in HDF5 files, which are read through the strict reader."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tlcli import strict
from tlcli.errors import RunError
from tlcli.files.drafts import written
from tlcli.files.failures import require_resources
from tlcli.strict.arrays import ArrayFile, array_file

Arrays = dict[str, NDArray[Any]]


def save_arrays(path: Path, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
    """Write arrays and attributes to a new HDF5 file durably; equal input gives equal bytes."""
    content = pack_arrays(arrays, attributes)
    with written(path) as stream:
        stream.write(content)


def pack_arrays(arrays: Arrays, attributes: Mapping[str, Any]) -> bytes:
    """The bytes of an HDF5 file.

    It is made in memory: HDF5 reports a full disk as a RuntimeError at close, and may crash.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    return memory.getvalue()


@contextmanager
def loading_arrays(path: Path, newest_format: int) -> Iterator[ArrayFile]:
    """Open what `save_arrays` wrote, with its attribute `format`.

    Compare the file's hash first where it can be damaged: HDF5 may hang on a flipped bit.

    Raises:
        RunError: the file is newer than this program, damaged, or not of this kind.
    """
    with parsing(path), strict.opened(path) as stream, array_file(stream) as file:
        require_format(path, file, newest_format)
        yield file


def require_format(path: Path, file: ArrayFile, newest_format: int) -> None:
    """Refuse a file that a newer program wrote.

    Raises:
        RunError: it did.
        Malformed: the file does not say.
    """
    found = file.attribute("format", strict.whole(1, 2**31))
    if found > newest_format:
        raise RunError(
            f"Expected format {newest_format} or older. Received: {path} has format {found}. "
            "Upgrade tlcli; the file was left untouched."
        )


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the content of a run's file into a RunError that names it."""
    try:
        yield
    except (OSError, ValueError) as error:
        require_resources(error, path)
        raise RunError(
            f"Expected an intact file. Received: {path} is damaged ({error}). "
            "Run `tlcli rounds verify` to see what else is."
        ) from error


def text_array(texts: tuple[str, ...]) -> NDArray[Any]:
    """Texts as one array of UTF-8 bytes joined by newlines (names contain none)."""
    return np.frombuffer("\n".join(texts).encode(), dtype=np.uint8)
