"""A classifier that exists, in the form of a run: a stored backbone, columns, names."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.backbones import (
    ADOPTED,
    OWN,
    SCALINGS,
    CannotCut,
    ClassifierFile,
    Cut,
    Imagenet,
    Random,
    StoredBackbone,
    WeightsFile,
)
from tlcli.config import AdoptConfig, DrawingOptions, ReadingOptions
from tlcli.errors import UsageError
from tlcli.images import Square
from tlcli.rounds.backbone import beginning, drawn_by

TOLERANCE = 1e-4
"""Largest difference of a probability between a classifier and the run that adopts it."""

HALF_TOLERANCE = 0.05
"""The same where the classifier computes in 16 bits, and the run in 32."""

Probabilities = NDArray[np.float64]
Answers = Callable[[NDArray[np.uint8]], Probabilities]
"""Class probabilities (n, C) of raw RGB images (n, S, S, 3)."""


@dataclass(frozen=True, eq=False)
class Adopted:
    """A classifier in two parts, behind its scaling of pixels."""

    store: Callable[[Path], StoredBackbone]
    """Puts the files of the network into an empty folder."""
    weights: NDArray[np.float32]
    """(D, C)"""
    bias: NDArray[np.float32]
    answers: Answers | None
    """What the classifier itself says; None where it was never in one piece."""
    facts: dict[str, Any]
    """What the round reports of it."""
    tolerance: float = TOLERANCE


@dataclass(frozen=True, eq=False)
class FromFile:
    """A classifier in a file of the user."""

    file: ClassifierFile
    square: Square
    bare: Cut
    """Taken apart as it is, without anything in front."""

    @staticmethod
    def of(path: Path, image_size: int | None, drawing: DrawingOptions) -> "FromFile":
        """The classifier in a file.

        Raises:
            UsageError: it cannot be read, or not be taken apart.
        """
        file = backbones.read_classifier(path)
        try:
            square = drawn_by(drawing, backbones.image_size_of(file.model, image_size))
            bare = backbones.cut(file.model, square.size, SCALINGS[OWN].prepare)
        except CannotCut as error:
            raise error.about(path) from error
        return FromFile(file, square, bare)

    @property
    def columns(self) -> int:
        """C."""
        return len(self.bare.bias)

    @property
    def names(self) -> tuple[tuple[str, str], ...] | None:
        """As a file has them that tlcli has written."""
        found = self.file.classes
        return None if found is None else tuple((name, "") for name in found)

    @property
    def sha256(self) -> str | None:
        """Of the file."""
        return backbones.classifier_digest(self.file.path)

    @property
    def scalings(self) -> tuple[str, ...]:
        """Those that may have to stand in front of it."""
        if self.bare.scales is not None:
            return (OWN,)
        grey = backbones.is_grey(self.file.model)
        return tuple(name for name, row in SCALINGS.items() if not (grey and row.coloured))

    def answers(self, scaling: str, images: NDArray[np.uint8]) -> Probabilities:
        """What the classifier itself says of images behind a row of `SCALINGS`."""
        prepare, activation = SCALINGS[scaling].prepare, self.bare.activation
        return backbones.answers_of(self.file.model, activation, prepare, images)

    def scaled(self, scaling: str) -> Adopted:
        """The classifier behind a row of `SCALINGS`."""
        prepare, model, square = SCALINGS[scaling].prepare, self.file.model, self.square

        def store(folder: Path) -> StoredBackbone:
            network = backbones.cut(model, square.size, prepare).network
            label = str(self.file.path)
            return backbones.store(network, ADOPTED, label, folder, drawing=square.choices)

        return Adopted(
            store,
            self.bare.weights,
            self.bare.bias,
            lambda images: self.answers(scaling, images),
            _facts(self.bare) | {"scaling": scaling, "scaled_by": self.bare.scales},
            HALF_TOLERANCE if self.bare.half else TOLERANCE,
        )


def _facts(cut: Cut) -> dict[str, Any]:
    return {"last_layer": cut.last_layer, "activation": cut.activation}


@dataclass(frozen=True, eq=False)
class FromImagenet:
    """A backbone of the table with its own 1000 columns."""

    backbone: str
    adopted: Adopted

    @staticmethod
    def of(backbone: str, weights: str, drawing: DrawingOptions) -> "FromImagenet":
        """A row of the table.

        Raises:
            UsageError: there is no such backbone, or the weights are of another one.
            WeightsUnavailable: they are not here.
        """
        row, source = backbones.architecture(backbone), backbones.weights_of(weights)
        if isinstance(source, Random) or (row.package and isinstance(source, WeightsFile)):
            raise UsageError(
                f"Expected the weights of {backbone} with their 1000 columns. Received: "
                f"weights={weights}. Leave --weights out."
            )
        if row.package:
            return FromImagenet(backbone, _packaged(row, drawing))
        return FromImagenet(backbone, _application(row, source, drawing))

    @property
    def columns(self) -> int:
        """C."""
        return len(self.adopted.bias)

    @property
    def names(self) -> tuple[tuple[str, str], ...] | None:
        """With WordNet identifiers."""
        return tuple((name, identifier) for identifier, name in backbones.imagenet_classes())

    @property
    def sha256(self) -> str | None:
        """It is known by its name."""
        return None


_OF_THE_TABLE: dict[str, Any] = {
    "scaling": None,
    "scaled_by": "as its row of `tlcli backbones` says",
    "scalings": [],
    "tried_on": 0,
}


def _packaged(row: backbones.Architecture, drawing: DrawingOptions) -> Adopted:
    begins = beginning(Imagenet.label, row.name, None, None, drawing, ReadingOptions())
    weights, bias = backbones.packaged_columns(row)
    facts = {"last_layer": "its own 1000 columns", "activation": "softmax", **_OF_THE_TABLE}
    return Adopted(begins.stored_in, weights, bias, None, facts)


def _application(
    row: backbones.Architecture, weights: Imagenet | WeightsFile, drawing: DrawingOptions
) -> Adopted:
    choices = drawn_by(drawing, row.image_size).choices
    model = backbones.application(row, weights)
    found = backbones.cut_application(row, model)
    prepare = backbones.PREPARE[row.preprocessing]
    return Adopted(
        lambda folder: backbones.store(
            found.network, row.name, weights.label, folder, drawing=choices
        ),
        found.weights,
        found.bias,
        lambda images: backbones.answers_of(model, found.activation, prepare, images),
        _facts(found) | _OF_THE_TABLE,
    )


def source_of(config: AdoptConfig) -> FromFile | FromImagenet:
    """The classifier that a command names.

    Raises:
        UsageError: it cannot be adopted, or an option is for another kind.
        WeightsUnavailable: it is one of the table whose weights are not here.
    """
    known = isinstance(backbones.weights_of(config.model), Imagenet)
    foreign = ("classes", "scaling", "image_size") if known else ("backbone", "weights")
    for option in foreign:
        if getattr(config, option) is not None:
            flag = option.replace("_", "-")
            kind = "a file" if known else Imagenet.label
            raise UsageError(
                f"Expected --{flag} with {kind} alone. Received: model={config.model}. "
                f"Leave --{flag} out."
            )
    if known:
        name = config.backbone or backbones.DEFAULT_BACKBONE
        return FromImagenet.of(name, config.weights or Imagenet.label, config.drawing)
    if config.scaling is not None:
        backbones.scaling_named(config.scaling)
    return FromFile.of(Path(config.model), config.image_size, config.drawing)
