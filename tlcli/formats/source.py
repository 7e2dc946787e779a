"""What every format is written from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones

OUTPUT = "probabilities"
"""The name of the one output, in formats that name outputs."""

LABELS = "labels.txt"
"""The class names, one a line in UTF-8, in formats that carry files."""


@dataclass(frozen=True, eq=False)
class Source:
    """A run's classifier, ready to be converted."""

    archive: Path
    """It as a `.keras` file: raw RGB (n, S, S, 3) in 0..255 in, probabilities (n, C) out."""
    classes: tuple[str, ...]
    """The C names, in the order of the output."""
    calibration: NDArray[np.uint8] | None = None
    """Images (n, S, S, 3) that show which values occur: asks for int8 where not None."""

    @property
    def labels(self) -> bytes:
        """The content of `LABELS`."""
        return "".join(f"{name}\n" for name in self.classes).encode()

    def model(self) -> Any:
        """It as a `keras.Model`."""
        keras = backbones.keras_module()
        return keras.saving.load_model(str(self.archive), compile=False, safe_mode=True)
