"""Indexes of imagined images, whose descriptors are known."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import retrieval
from tlcli.features import Kind
from tlcli.retrieval import Descriptor, Space

WIDTH = 16
SPACE = Space("backbone-a", Kind("openvino 0123", "decoder 1"), WIDTH)
PLAIN = Descriptor("plain", WIDTH)


def descriptors(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows (n, 16) of length 1, in clusters, rounded as the index rounds them."""
    centres = np.random.default_rng(7).normal(size=(8, WIDTH))
    rng = np.random.default_rng(seed)
    rows = centres[np.arange(count) % 8] + 0.5 * rng.normal(size=(count, WIDTH))
    return PLAIN.of(rows.astype(np.float32)).astype(np.float16).astype(np.float32)


def image(number: int) -> tuple[str, str, str]:
    """(content hash, class, path) of an imagined image."""
    key = hashlib.sha256(str(number).encode()).hexdigest()
    return key, f"class {number % 8}", f"/photos/{number}.jpg"


def add(run: Path, numbers: Sequence[int], rows: NDArray[np.float32]) -> None:
    """Add imagined images to the index of a run."""
    with retrieval.writing(run, 0) as writer:
        if writer.begun is None:
            writer.begin(SPACE, PLAIN)
        writer.add([image(number) for number in numbers], iter([rows]))


def remove(run: Path, numbers: Sequence[int]) -> None:
    """Take them away again."""
    with retrieval.writing(run, 0) as writer:
        writer.remove(writer.records.of_hashes(image(number)[0] for number in numbers))


def contents(run: Path) -> dict[str, bytes]:
    """Path → the bytes of its descriptor, as a reader finds them."""
    with retrieval.open_index(run) as index:
        return {
            entry.path: index.row(entry.file, entry.row).tobytes()
            for entry in index.records.entries()
        }
