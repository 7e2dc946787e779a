"""One segment: an immutable HDF5 file of feature vectors, named by the SHA-256 of its bytes.

keys      (n, 32) uint8     the content hash of each image
vectors   (n, D) float32, or float16 in an index
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tlcli import files
from tlcli.features.vectors import OnDisk, Vectors

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


def pack(keys: Keys, vectors: NDArray[np.floating]) -> bytes:
    """The bytes of a segment of vectors (n, D), at least one; equal input gives equal bytes."""
    rows = keys.view(np.uint8).reshape(-1, 32)
    return files.pack_arrays({"keys": rows, "vectors": vectors}, {})


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
        ValueError: it is damaged, or its vectors have another width.
    """
    rows = OnDisk(path)
    if not stat.S_ISREG(os.fstat(rows.descriptor).st_mode):
        raise OSError("it is not a file")
    with open(rows.descriptor, "rb", closefd=False) as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != path.stem:
            raise ValueError("its checksum does not match")
        with files.unpacking(stream) as file:
            keys = files.own_dataset(file, "keys")[()]
            vectors = files.own_dataset(file, "vectors")
            offset = vectors.id.get_offset()
            if keys.dtype != np.uint8 or keys.shape != (len(keys), 32) or offset is None:
                raise ValueError("it is not laid out as a segment")
            if vectors.dtype != np.dtype(dtype).newbyteorder("<") or vectors.shape != (
                len(keys),
                width,
            ):
                raise ValueError(f"it has {vectors.dtype} vectors of shape {vectors.shape}")
    rows.offset = offset
    return Segment(path, np.ascontiguousarray(keys).view("S32").reshape(-1), rows)


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
