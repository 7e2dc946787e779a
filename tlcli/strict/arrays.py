"""HDF5 files as tlcli writes them: each array in one piece, uncompressed, in the file itself.

Type and shape are compared with what the format says, and the bytes with the length of the file,
before an array is allocated: HDF5 gives zeros for what a file says it has and does not hold, of any
size.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from tlcli.strict.values import Malformed, Reader, T, shown, unique

Shape = tuple[int | None, ...]
"""None: any length, up to what the file holds."""


@dataclass(frozen=True)
class Place:
    """Where the bytes of an array are in its file."""

    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class ArrayFile:
    """An open HDF5 file, and how long it is."""

    file: h5py.File
    length: int

    def says(self, name: str) -> bool:
        """Whether there is an attribute."""
        return name in self.file.attrs

    def holds(self, name: str) -> bool:
        """Whether there is an array."""
        return name in self.file

    def attribute(self, name: str, reader: Reader[T]) -> T:
        """A single text, number or truth.

        Raises:
            Malformed: there is none, or it is something else.
        """
        if name not in self.file.attrs:
            raise Malformed(f"{name} is missing")
        found = self.file.attrs.get_id(name)
        if found.shape != () or found.get_type().get_class() not in _SIMPLE:
            raise Malformed(f"{name} is no single value")
        value = self.file.attrs[name]
        try:
            return reader(value.item() if isinstance(value, np.generic) else value)
        except Malformed as error:
            raise Malformed(f"{name}: {error}") from error

    def array(self, name: str, dtype: str, shape: Shape, most: float = math.inf) -> NDArray[Any]:
        """An array of this type and shape, all of whose numbers are finite, and none beyond ±most.

        Raises:
            Malformed: there is none, or it is something else.
        """
        self.place(name, dtype, shape)
        array = self.file[name][()]
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Malformed(f"{name} has numbers that are not finite")
        if most < math.inf and array.size and max(array.max(), -array.min()) > most:
            raise Malformed(f"{name} has numbers beyond {most:g}")
        return np.asarray(array)

    def place(self, name: str, dtype: str, shape: Shape) -> Place:
        """Where an array of this type and shape is, unread.

        Raises:
            Malformed: there is none, or it is something else.
        """
        dataset = self._own(name)
        wanted = np.dtype(dtype)
        if dataset.dtype != wanted or not _fits(dataset.shape, shape):
            raise Malformed(
                f"{name} is {dataset.dtype} of shape {dataset.shape}, and not {wanted} of shape "
                f"{_described(shape)}"
            )
        size, offset = math.prod(dataset.shape) * wanted.itemsize, dataset.id.get_offset() or 0
        if size and not 0 < offset <= self.length - size:
            raise Malformed(f"{name} has {size} bytes, which are not in a file of {self.length}")
        return Place(dataset.shape, offset)

    def names(self, name: str, reader: Reader[str]) -> tuple[str, ...]:
        """Texts, each once, that `files.text_array` made an array of.

        Raises:
            Malformed: there are none, or something else.
        """
        try:
            joined = self.array(name, "|u1", (None,)).tobytes().decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"{name} is no text in UTF-8") from error
        found = tuple(map(reader, joined.split("\n"))) if joined else ()
        unique(found, name)
        return found

    def all_arrays(self) -> list[NDArray[Any]]:
        """Every array of the file, in the order of their names.

        Raises:
            Malformed: something in it is none.
        """
        own = [(name, self._own(name)) for name in sorted(self.file)]
        if strange := [name for name, dataset in own if dataset.dtype.kind not in "fiub"]:
            raise Malformed(f"{shown(strange[0])} holds no numbers")
        return [self.array(name, dataset.dtype.str, dataset.shape) for name, dataset in own]

    def _own(self, name: str) -> h5py.Dataset:
        """A data set that is stored in this very file, in one piece."""
        link = self.file.get(name, getlink=True)
        if link is None:
            raise Malformed(f"{name} is missing")
        if not isinstance(link, h5py.HardLink):
            raise Malformed(f"{name} is a link to elsewhere")
        dataset = self.file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
            raise Malformed(f"{name} is not stored in this file")
        properties = dataset.id.get_create_plist()
        if properties.get_layout() != h5py.h5d.CONTIGUOUS or dataset.shape is None:
            raise Malformed(f"{name} is not stored in one piece")
        return dataset


_SIMPLE = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM)


def _fits(found: tuple[int, ...], wanted: Shape) -> bool:
    return len(found) == len(wanted) and all(
        length in (None, size) for size, length in zip(found, wanted, strict=True)
    )


def _described(shape: Shape) -> str:
    return "×".join("any" if length is None else str(length) for length in shape)


@contextmanager
def array_file(stream: BinaryIO) -> Iterator[ArrayFile]:
    """Open an HDF5 file.

    Compare its hash first where it can be damaged: HDF5 may hang on a flipped bit.

    Raises:
        Malformed: it is none; also where HDF5 fails within the block.
    """
    try:
        length = stream.seek(0, io.SEEK_END)
        with h5py.File(stream, "r") as file:
            yield ArrayFile(file, length)
    except Malformed:
        raise
    except (*(OSError, LookupError, ValueError, RuntimeError, TypeError, AttributeError),) as error:
        raise Malformed(f"HDF5 cannot read it: {shown(str(error))}") from error
