"""Feature vectors that stay on disk and are read, a slice at a time, when they are asked for."""

import os
import weakref
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tlcli.errors import StorageError
from tlcli.strict import Malformed

Float32 = NDArray[np.float32]
Selection = slice | NDArray[np.bool_] | NDArray[np.integer]
Floating = TypeVar("Floating", np.float32, np.float64)

_BLOCK_NUMBERS = 2**18
"""Looked at at once."""


def unit_rows(rows: NDArray[Floating]) -> NDArray[Floating]:
    """Rows (n, D) made to length 1; those of length 0 stay so."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found = np.zeros_like(rows)
    np.divide(rows, lengths, out=found, where=lengths > 0)
    return found


class Block(Protocol):
    """Rows of one width, numbered from 0."""

    def read(self, first: int, into: Float32) -> None:
        """Fill `into` (k, D), contiguous and not empty, with the rows from `first` on."""
        ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """Rows that could not be saved."""

    rows: Float32
    """(n, D)"""

    def read(self, first: int, into: Float32) -> None:
        """See `Block`."""
        into[:] = self.rows[first : first + len(into)]


class OnDisk:
    """Rows in a file that is held open: they stay readable when the file is deleted."""

    def __init__(self, path: Path, descriptor: int, offset: int) -> None:
        """See the class.

        Args:
            path: for messages.
            descriptor: of the open file; it is duplicated.
            offset: where row 0 begins in the file, in bytes.
        """
        self.path = path
        self.offset = offset
        self.descriptor = os.dup(descriptor)
        weakref.finalize(self, os.close, self.descriptor)

    def require_finite(self, rows: int, width: int, dtype: DTypeLike = np.float32) -> None:
        """Refuse rows (n, D) with numbers that are not finite.

        Raises:
            Malformed: there are such.
        """
        most = max(_BLOCK_NUMBERS // width, 1)
        for first in range(0, rows, most):
            block = np.empty((min(most, rows - first), width), dtype)
            self.read(first, block)
            if not np.isfinite(block).all():
                raise Malformed("it has features that are not finite")

    def read(self, first: int, into: NDArray[np.generic]) -> None:
        """See `Block`; `into` has the type of the rows in the file.

        Raises:
            StorageError: the file was cut, or the disk fails.
        """
        buffer = into.reshape(-1).view(np.uint8).data
        place = self.offset + first * into.shape[1] * into.itemsize
        try:
            while len(buffer):
                done = os.preadv(self.descriptor, [buffer], place)
                if done == 0:
                    raise OSError("the file ends too early")
                buffer, place = buffer[done:], place + done
        except OSError as error:
            raise StorageError(
                f"Expected {self.path} as it was when it was opened. Received: "
                f"{error.strerror or error}. Check the disk, and run the command again."
            ) from error


@dataclass(frozen=True, eq=False)
class Vectors:
    """A matrix (n, D) of float32 whose rows lie in blocks, most of them on disk.

    An index gives an array, `take` gives fewer vectors without reading them.
    """

    width: int
    blocks: tuple[Block, ...]
    block: NDArray[np.integer]
    """(n,) the place of each row's block in `blocks`."""
    row: NDArray[np.integer]
    """(n,) the number of each row in its block."""

    @staticmethod
    def of(rows: Float32) -> "Vectors":
        """The rows of an array (n, D)."""
        count, width = rows.shape
        return Vectors(width, (InMemory(rows),), np.zeros(count, np.int32), np.arange(count))

    def __len__(self) -> int:
        return len(self.row)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows n and columns D."""
        return len(self), self.width

    @property
    def size(self) -> int:
        """How many numbers there are: n·D."""
        return len(self) * self.width

    def take(self, chosen: Selection) -> "Vectors":
        """The rows of a slice, a mask (n,) or an array of row numbers, unread."""
        return Vectors(self.width, self.blocks, self.block[chosen], self.row[chosen])

    def joined(self, other: "Vectors") -> "Vectors":
        """The rows of both, one matrix behind the other, unread."""
        return Vectors(
            self.width,
            self.blocks + other.blocks,
            np.concatenate([self.block, other.block + len(self.blocks)]),
            np.concatenate([self.row, other.row]),
        )

    def __getitem__(self, chosen: Selection) -> Float32:
        """Read the rows of a slice, a mask (n,) or an array of row numbers.

        Raises:
            StorageError: a file cannot be read any more.
        """
        block, row = self.block[chosen], self.row[chosen]
        result = np.empty((len(row), self.width), np.float32)
        breaks = (np.diff(block) != 0) | (np.diff(row) != 1)
        edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(row)] if len(row) else [0]
        for start, end in pairwise(edges):
            self.blocks[block[start]].read(int(row[start]), result[start:end])
        return result
