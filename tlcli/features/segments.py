"""Rows of feature vectors in immutable HDF5 files: of the cache, of memories, and of an index.

keys      (n, 32) uint8     the content hash of each image
vectors   (n, D) float32, or float16 in an index

A segment of the cache or of an index is such a file named by the SHA-256 of its bytes; the files of
a memory are in the manifest of their round.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tlcli import files, strict
from tlcli.features.vectors import OnDisk, Vectors
from tlcli.strict import Malformed
from tlcli.strict.arrays import ArrayFile, array_file

Keys = NDArray[np.bytes_]
"""(n,) content hashes of 32 bytes each, as numpy sorts and compares them."""

_HDF5_BYTES = 1672
"""What HDF5 needs for itself in a segment of any size."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment that was found intact, and is held open."""

    path: Path
    keys: Keys
    rows: OnDisk


def keys_of(hashes: Sequence[str]) -> Keys:
    """Content hashes in hexadecimal as keys."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), "S32")


def hashes_of(keys: Keys) -> tuple[str, ...]:
    """The inverse of `keys_of`."""
    joined = keys.tobytes().hex()
    return tuple(joined[start : start + 64] for start in range(0, len(joined), 64))


def byte_rows(keys: Keys) -> NDArray[np.uint8]:
    """(n, 32) the bytes of keys, as files have them."""
    return keys.view(np.uint8).reshape(-1, 32)


def keys_from(rows: NDArray[np.uint8]) -> Keys:
    """The inverse of `byte_rows`."""
    return np.ascontiguousarray(rows).view("S32").reshape(-1)


def pack(keys: Keys, vectors: NDArray[np.floating]) -> bytes:
    """The bytes of a segment of vectors (n, D), at least one; equal input gives equal bytes."""
    return files.pack_arrays({"keys": byte_rows(keys), "vectors": vectors}, {})


def name_of(content: bytes) -> str:
    """The file name of a segment."""
    return f"{hashlib.sha256(content).hexdigest()}.h5"


def images_in(segment_bytes: int, width: int) -> int:
    """How many vectors of a width a segment of this size holds."""
    return round((segment_bytes - _HDF5_BYTES) / (32 + 4 * width))


def opened(path: Path, width: int, dtype: DTypeLike = np.float32) -> Segment:
    """Open a segment, once all its bytes were compared with its name; vectors are not kept.

    Args:
        path: the file.
        width: D.
        dtype: of the vectors: float32, or float16.

    Raises:
        OSError: it cannot be read.
        Malformed: it is damaged, or its vectors have another width.
    """
    with strict.opened(path) as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != path.stem:
            raise Malformed("its checksum does not match")
        with array_file(stream) as file:
            found = read(path, stream, file, width, dtype)
    if not len(found.keys):
        raise Malformed("it has no vectors")
    return found


def read(
    path: Path, stream: BinaryIO, file: ArrayFile, width: int, dtype: DTypeLike = np.float32
) -> Segment:
    """The rows of an open file, whose vectors stay on disk.

    Args:
        path: of the file, for messages.
        stream: the file.
        file: the same as HDF5.
        width: D.
        dtype: of the vectors.

    Raises:
        Malformed: there are none of this width and type, or not all are finite.
    """
    keys = keys_from(file.array("keys", "|u1", (None, 32)))
    found = file.place("vectors", np.dtype(dtype).str, (len(keys), width))
    rows = OnDisk(path, stream.fileno(), found.offset)
    rows.require_finite(len(keys), width, dtype)
    return Segment(path, keys, rows)


def united(segments: Sequence[Segment], width: int) -> tuple[Keys, Vectors]:
    """The vectors of segments, at least one, in the order of their keys, each key once."""
    lengths = [len(segment.keys) for segment in segments]
    block = np.repeat(np.arange(len(segments), dtype=np.int32), lengths)
    row = np.concatenate([np.arange(length) for length in lengths])
    keys, first = np.unique(
        np.concatenate([segment.keys for segment in segments]), return_index=True
    )
    blocks = tuple(segment.rows for segment in segments)
    return keys, Vectors(width, blocks, block[first], row[first])
