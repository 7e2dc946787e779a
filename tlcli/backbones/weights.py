"""Where the weights of a backbone come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tlcli.backbones import weights_files
from tlcli.backbones.table import Architecture, weights_file

RANDOM = "none"
FINE_TUNED = "fine-tuned"
UNLABELLED = "simclr"
"""Labels of weights that were trained here: from random ones, from others, without labels."""


@dataclass(frozen=True)
class Imagenet:
    """The published weights, from the package, Keras' cache or its download."""

    label: ClassVar[str] = "imagenet"

    def file(self, row: Architecture) -> Path | None:
        """Where they are, once they are here."""
        return weights_file(row)

    def check(self) -> None:
        """Nothing can be wrong with them before they are loaded."""

    def load(self, model: Any, row: Architecture) -> None:
        """Give them to a backbone; raises WeightsUnavailable."""
        weights_files.load_imagenet(model, row)


@dataclass(frozen=True)
class Random:
    """The weights that a new network has."""

    label: ClassVar[str] = RANDOM

    def file(self, row: Architecture) -> Path | None:
        """They are in no file."""
        return None

    def check(self) -> None:
        """Nothing can be wrong with them."""

    def load(self, model: Any, row: Architecture) -> None:
        """A backbone has them already."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of the user: .h5, .weights.h5 or .keras."""

    label: str
    """Its path, as it was given."""

    def file(self, row: Architecture) -> Path | None:
        """The file."""
        return Path(self.label)

    def check(self) -> None:
        """Raise UsageError unless it is there and can be read by its suffix."""
        weights_files.check_path(Path(self.label))

    def load(self, model: Any, row: Architecture) -> None:
        """Give them to a backbone; raises UsageError where they do not fit."""
        weights_files.load_file(model, Path(self.label))


Weights = Imagenet | Random | WeightsFile

_WORDS: dict[str, Imagenet | Random] = {row.label: row for row in (Imagenet(), Random())}


def weights_of(text: str) -> Weights:
    """What a word, or else the path of a file, stands for."""
    return _WORDS.get(text) or WeightsFile(text)
