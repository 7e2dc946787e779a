"""What every format is written from."""

import json
from collections.abc import Mapping
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

IMAGES = "images.json"
"""How an image is drawn to the square that goes in, in formats that carry files."""


@dataclass(frozen=True, eq=False)
class Source:
    """A run's classifier, ready to be converted."""

    archive: Path
    """It as a `.keras` file: raw RGB (n, S, S, 3) in 0..255 in, probabilities (n, C) out."""
    classes: tuple[str, ...]
    """The C names, in the order of the output."""
    images: Mapping[str, Any]
    """How an image is drawn to the square that goes in."""
    calibration: NDArray[np.uint8] | None = None
    """Images (n, S, S, 3) that show which values occur: asks for int8 where not None."""

    @property
    def labels(self) -> bytes:
        """The content of `LABELS`."""
        return "".join(f"{name}\n" for name in self.classes).encode()

    @property
    def drawing(self) -> str:
        """The content of `IMAGES`."""
        return json.dumps(self.images)

    def model(self) -> Any:
        """It as a `keras.Model`."""
        keras = backbones.keras_module()
        return keras.saving.load_model(str(self.archive), compile=False, safe_mode=True)
