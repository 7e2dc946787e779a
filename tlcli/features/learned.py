"""A learned projection of feature vectors: in it images of one class are near each other."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tlcli import files, strict
from tlcli.features.vectors import Float32
from tlcli.strict import Malformed
from tlcli.strict.arrays import array_file

FORMAT = 1


@dataclass(frozen=True, eq=False)
class LearnedProjection:
    """x → (x − m)A for the features x of one backbone."""

    backbone: str
    """Fingerprint of the backbone."""
    objective: str
    """What it was trained by."""
    classes: tuple[str, ...]
    """Whose images trained it, or decided which epoch was kept, as they were called then."""
    centre: Float32
    """m (D,)"""
    matrix: Float32
    """A (D, M)"""

    @property
    def width(self) -> int:
        """M, of a projected feature."""
        return int(self.matrix.shape[1])

    def of(self, rows: Float32) -> Float32:
        """Projected features (n, M) of features (n, D)."""
        return np.asarray((rows.astype(np.float64) - self.centre) @ self.matrix, np.float32)

    @cached_property
    def content(self) -> bytes:
        """The bytes of its file: the same projection gives the same."""
        arrays = {
            "classes": files.text_array(self.classes),
            "centre": self.centre,
            "matrix": self.matrix,
        }
        facts = {"format": FORMAT, "backbone": self.backbone, "objective": self.objective}
        return files.pack_arrays(arrays, facts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its file, which is named by it."""
        return hashlib.sha256(self.content).hexdigest()


def load(path: Path, fingerprint: str) -> LearnedProjection:
    """Read what `content` gave.

    Raises:
        RunError: it is missing, damaged, or newer than this program.
    """
    with files.parsing(path), strict.opened(path) as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != fingerprint:
            raise Malformed("its checksum does not match")
        with array_file(stream) as file:
            files.require_format(path, file, FORMAT)
            centre = file.array("centre", "<f4", (None,))
            matrix = file.array("matrix", "<f4", (len(centre), None))
            if not matrix.size:
                raise Malformed("its matrix is empty")
            return LearnedProjection(
                file.attribute("backbone", strict.HEX_DIGEST),
                file.attribute("objective", strict.NAME),
                file.names("classes", strict.NAME),
                centre,
                matrix,
            )
