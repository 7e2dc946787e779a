"""One segment: an immutable HDF5 file of feature vectors, named by the SHA-256 of its bytes.

keys      (n, 32) uint8     the content hash of each image
vectors   (n, D) float32
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import files, strict
from tlcli.features.vectors import Float32, OnDisk, Vectors
from tlcli.strict import Malformed
from tlcli.strict.arrays import array_file

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


def pack(keys: Keys, vectors: Float32) -> bytes:
    """The bytes of a segment of vectors (n, D), at least one; equal input gives equal bytes."""
    rows = keys.view(np.uint8).reshape(-1, 32)
    return files.pack_arrays({"keys": rows, "vectors": vectors}, {})


def name_of(content: bytes) -> str:
    """The file name of a segment."""
    return f"{hashlib.sha256(content).hexdigest()}.h5"


def images_in(segment_bytes: int, width: int) -> int:
    """How many vectors of a width a segment of this size holds."""
    return round((segment_bytes - _HDF5_BYTES) / (32 + 4 * width))


def opened(path: Path, width: int) -> Segment:
    """Open a segment, once all its bytes were compared with its name; vectors are not kept.

    Raises:
        OSError: it cannot be read.
        Malformed: it is damaged, or its vectors have another width.
    """
    with strict.opened(path) as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != path.stem:
            raise Malformed("its checksum does not match")
        with array_file(stream) as file:
            keys = file.array("keys", "|u1", (None, 32))
            found = file.place("vectors", "<f4", (len(keys), width))
        if not len(keys):
            raise Malformed("it has no vectors")
        rows = OnDisk(path, stream.fileno(), found.offset)
        rows.require_finite(len(keys), width)
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
