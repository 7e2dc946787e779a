"""The backbone that a run begins with: what `--weights` says, read and opened once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlcli import backbones, runs
from tlcli.backbones import Drawing, Imagenet, Random, Reading, StoredBackbone, WeightsFile
from tlcli.config import AUTO, DrawingOptions, ReadingOptions
from tlcli.errors import UsageError, require_choice
from tlcli.extractor import backbone_of
from tlcli.images import DEFAULT_FIT, Square


@dataclass(frozen=True, eq=False)
class OfRun:
    """The backbone of the current round of another run."""

    path: Path
    stored: StoredBackbone

    @staticmethod
    def at(path: Path) -> "OfRun":
        """That of the run in a folder.

        Raises:
            RunError: there is none, or it is damaged.
        """
        run = runs.open_run(path)
        return OfRun(path, backbone_of(run, run.round().manifest))

    def require(self, option: str, wanted: object, given: object) -> None:
        """Raise UsageError where an option asks for something else than the run gives."""
        if wanted not in (None, given):
            raise UsageError(
                f"Expected the {option} of the run {self.path}: {given}. "
                f"Received: {option}={wanted}. Leave --{option} out."
            )


Source = Imagenet | Random | WeightsFile | OfRun


def opened(weights: str) -> Source:
    """What `--weights` names; a folder is a run, which is opened.

    Raises:
        RunError: the folder is no run, or a damaged one.
    """
    found = backbones.weights_of(weights)
    if isinstance(found, WeightsFile) and Path(weights).is_dir():
        return OfRun.at(Path(weights))
    return found


@dataclass(frozen=True, eq=False)
class Beginning:
    """A backbone that is to be had: its row, and where its weights come from."""

    name: str
    image_size: int | None
    """None: the size that it was designed for."""
    precision: str
    drawing: Drawing
    source: Source
    reading: Reading = backbones.USUAL

    @staticmethod
    def of_run(source: OfRun) -> "Beginning":
        """The backbone of another run as it is."""
        stored = source.stored
        return Beginning(
            stored.name,
            stored.image_size,
            stored.precision,
            stored.drawing,
            source,
            stored.reading,
        )

    def model(self, seed: int = 0) -> Any:
        """The backbone as a `keras.Model`; `seed` is that of random weights."""
        if isinstance(self.source, OfRun):
            return backbones.load_model(self.source.stored)
        network = backbones.build(self.name, self.image_size, self.source, seed)
        trained = not isinstance(self.source, Random)
        return backbones.read(network, self.name, self.reading, trained)

    def stored_in(self, folder: Path) -> StoredBackbone:
        """The backbone with pretrained weights, whose files are put into an empty folder."""
        if isinstance(self.source, OfRun):
            self.source.stored.copy_into(folder)
            return self.source.stored
        return backbones.prepare(
            self.name,
            self.image_size,
            self.source,
            self.precision,
            self.drawing,
            folder,
            self.model,
            self.reading,
        )


def beginning(
    weights: str,
    backbone: str | None,
    image_size: int | None,
    precision: str | None,
    drawing: DrawingOptions,
    reading: ReadingOptions,
) -> Beginning:
    """The backbone that is asked for, before any image is read.

    Args:
        weights: `imagenet`, `none`, a file, or the folder of a run.
        backbone: a row of `BACKBONES`; None for that of the run, or the default.
        image_size: side of its images; None for that of the run, or its own.
        precision: of its features; None for that of the run, or the default.
        drawing: how its images are drawn to their square.
        reading: what of its network becomes the feature vector; layers that are to be chosen are
            the usual ones so far.

    Raises:
        UsageError: there is no such backbone, precision, fit or reading, or the weights cannot be
            of it.
        RunError: the weights are those of a folder that is no run.
    """
    if backbone:
        backbones.architecture(backbone)
    if precision is not None:
        require_choice("a precision", precision, backbones.PRECISIONS)
    wanted, read = drawn_by(drawing, 1), reading_of(reading)
    source = opened(weights)
    if isinstance(source, OfRun):
        source.require("backbone", backbone, source.stored.name)
        source.require("image-size", image_size, source.stored.image_size)
        source.require("precision", precision, source.stored.precision)
        square = Square.of(source.stored.image_size, source.stored.drawing)
        source.require("fit", drawing.fit, square.fit)
        source.require("white-level", drawing.white_level, square.white_level)
        source.require("layers", reading.layers, source.stored.reading.layers)
        source.require("views", reading.views, source.stored.reading.views)
        return Beginning.of_run(source)
    return Beginning(
        backbone or backbones.DEFAULT_BACKBONE,
        image_size,
        precision or backbones.DEFAULT_PRECISION,
        wanted.choices,
        source,
        read,
    )


def reading_of(options: ReadingOptions) -> Reading:
    """What is asked for, the default where nothing is.

    Raises:
        UsageError: there are no such layers or views.
    """
    usual = backbones.USUAL
    layers = usual.layers if options.layers in (None, AUTO) else options.layers
    reading = Reading(layers, options.views or usual.views)
    reading.require()
    return reading


def drawn_by(drawing: DrawingOptions, size: int) -> Square:
    """The square of this side in pixels that images are drawn to.

    Raises:
        UsageError: there is no such fit or white level.
    """
    square = Square(size, drawing.fit or DEFAULT_FIT, drawing.white_level)
    square.require()
    return square


def size_of(model: Any) -> int:
    """Side of the images that a backbone takes."""
    return int(model.input_shape[1])
