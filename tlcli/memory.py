"""What a run remembers between rounds: the moments, and which images it has learned.

The ledger is a set of content hashes with their class: it recognises an image that was learned
before, and holds no pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import files
from tlcli.moments import Moments

FORMAT = 1
KIND = "moments"


@dataclass(frozen=True, eq=False)
class Memory:
    """The state that an extension starts from."""

    moments: Moments
    ledger: Mapping[str, str]
    """Content hash (hex SHA-256) of every learned image → its class."""
    complete: bool = True
    """Whether the moments cover every image that the run has ever learned."""


def save(memory: Memory, path: Path) -> None:
    """Write `memory.h5`: the same state gives the same bytes.

    Raises:
        StorageError: it cannot be written.
    """
    moments = memory.moments
    row = {name: index for index, name in enumerate(moments.classes)}
    hashes = sorted(memory.ledger)
    arrays = {
        "classes": files.text_array(moments.classes),
        "counts": moments.counts,
        "sums": moments.sums,
        "gram": moments.gram_triangle,
        "ledger_hashes": _hash_rows(hashes),
        "ledger_classes": np.array([row[memory.ledger[key]] for key in hashes], np.int32),
    }
    attributes = {
        "format": FORMAT,
        "fingerprint": moments.fingerprint,
        "bits": moments.bits,
        "width": moments.width,
        "saturated": moments.saturated,
        "complete": memory.complete,
    }
    files.save_arrays(path, arrays, attributes)


def load(path: Path) -> Memory:
    """Read `memory.h5`.

    Raises:
        RunError: the file is damaged, or newer than this program.
    """
    with files.parsing(path):
        arrays, attributes = files.load_arrays(path, FORMAT)
        moments = _moments_from(arrays, attributes)
        ledger = _ledger_from(arrays, moments.classes)
        return Memory(moments, ledger, bool(attributes["complete"]))


def _moments_from(arrays: files.Arrays, attributes: Mapping[str, Any]) -> Moments:
    width = int(attributes["width"])
    classes = files.texts_of(arrays["classes"])
    counts, sums = arrays["counts"], arrays["sums"]
    if counts.shape != (len(classes),) or sums.shape != (len(classes), width):
        raise ValueError("classes, counts and sums differ in number")
    gram = np.zeros((width, width), np.int64)
    upper = np.triu_indices(width)
    gram[upper] = arrays["gram"]
    gram.T[upper] = arrays["gram"]
    return Moments(
        str(attributes["fingerprint"]),
        int(attributes["bits"]),
        classes,
        counts,
        sums,
        gram,
        int(attributes["saturated"]),
    )


def _hash_rows(hashes: list[str]) -> NDArray[np.uint8]:
    """(n, 32) the bytes of hex hashes."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 32)


def _ledger_from(arrays: files.Arrays, classes: tuple[str, ...]) -> dict[str, str]:
    return {
        row.tobytes().hex(): classes[index]
        for row, index in zip(arrays["ledger_hashes"], arrays["ledger_classes"], strict=True)
    }
