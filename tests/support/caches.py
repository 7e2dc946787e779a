"""What the cache of features holds, read from its files."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tlcli import cache
from tlcli.features import segments


def cached() -> dict[str, bytes]:
    """The bytes of the vector under each content hash; the same ones in every segment."""
    found: dict[str, bytes] = {}
    for path in cache.folder().glob("features/*/*.h5"):
        for sha256, vector in _rows(path):
            assert found.setdefault(sha256, vector) == vector
    return found


def _rows(path: Path) -> Iterator[tuple[str, bytes]]:
    width = json.loads((path.parent / "space.json").read_text("utf-8"))["width"]
    segment = segments.opened(path, width)
    vectors = np.empty((len(segment.keys), width), np.float32)
    segment.rows.read(0, vectors)
    for key, vector in zip(segment.keys, vectors, strict=True):
        yield bytes(key).ljust(32, b"\0").hex(), vector.tobytes()
