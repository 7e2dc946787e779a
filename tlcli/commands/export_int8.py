"""The images that int8 is calibrated on, and how far its answers are from the run's."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import formats, images, memory
from tlcli.config import Columns, ExportConfig, Progress
from tlcli.errors import BadImage, DataError, UsageError
from tlcli.extractor import Extractor
from tlcli.images import ImageFile, Square
from tlcli.rounds.intake import warn_of_tones
from tlcli.rounds.parent import head_of
from tlcli.runs import Round

log = logging.getLogger(__name__)

MOST = 500
"""Images that are used: the range of values does not change with more."""

LEAST_AGREEMENT = 0.95
"""Share of images with the run's answer below which there is a warning."""


@dataclass(frozen=True)
class Quantised:
    """How an int8 file answers on the images that it was calibrated on."""

    images: int
    agreement: float
    """Share of the images on which the most probable class is the run's."""
    labelled: int
    """Images of a class that the run knows."""
    accuracy: float | None
    """Of the file on them; None where there is none."""
    run_accuracy: float | None
    """Of the run on them."""
    learned: int
    """How many of the images the run has learned: accuracies look better on these."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Images with their labels and the run's answers."""

    pixels: NDArray[np.uint8]
    """(n, S, S, 3)"""
    labels: NDArray[np.object_]
    """(n,) class names, of classes that the run does not know, too; None where there are none."""
    answers: NDArray[np.object_]
    """(n,) the run's class names."""
    classes: tuple[str, ...]
    learned: int
    """How many of the images the run has learned."""

    def compared(self, name: str, path: Path) -> Quantised:
        """How a file in a format answers; a warning where it disagrees with the run often."""
        probabilities = formats.run(name, path, self.pixels)
        answers = np.array(self.classes, dtype=object)[probabilities.argmax(axis=1)]
        known = np.array([label in self.classes for label in self.labels], bool)
        result = Quantised(
            images=len(self.pixels),
            agreement=float(np.mean(answers == self.answers)),
            labelled=int(known.sum()),
            accuracy=_share(answers[known] == self.labels[known]),
            run_accuracy=_share(self.answers[known] == self.labels[known]),
            learned=self.learned,
        )
        if result.agreement < LEAST_AGREEMENT:
            _warn_of_disagreement(result.agreement)
        return result


def _warn_of_disagreement(agreement: float) -> None:
    log.warning(
        "int8 answers as the run does on %.1f %% of the images only: calibrate on more "
        "images like those that will come, or leave --int8 out",
        100 * agreement,
    )


def _share(right: NDArray[Any]) -> float | None:
    return float(np.mean(right)) if len(right) else None


def calibration_samples(
    config: ExportConfig, current: Round, extractor: Extractor, progress: Progress
) -> Samples | None:
    """The images of --calibrate, or None where the file will be in float32.

    Learned ones serve as well as others to show which values occur, and are counted.

    Raises:
        UsageError: they are not there.
        DataError: none can be read.
    """
    if config.calibrate is None:
        return None
    chosen = _chosen(config.calibrate, config.columns)
    readable = _readable(list(chosen), extractor.square, config.calibrate)
    found = extractor.features(list(readable), progress)
    warn_of_tones(found.tones)
    labels = [chosen[image] for image in found.images]
    head = head_of(current, extractor)
    return Samples(
        pixels=np.stack([readable[image] for image in found.images]),
        labels=np.array(labels, dtype=object),
        answers=head.predict(extractor.seen(found.vectors)),
        classes=head.classes,
        learned=len(memory.ledger_of(current).keys() & set(found.hashes)),
    )


def _readable(
    chosen: list[ImageFile], square: Square, data: str
) -> dict[ImageFile, NDArray[np.uint8]]:
    """The pixels of the images that can be read; a warning of the others."""
    decoded = images.decode_many(chosen, square)
    readable = {
        image: pixels
        for image, pixels in zip(chosen, decoded, strict=True)
        if not isinstance(pixels, BadImage)
    }
    if not readable:
        raise DataError(
            f"Expected images for --calibrate. Received: none that can be read in {data}. "
            "Give a folder of images."
        )
    if len(readable) < len(chosen):
        log.warning("%d images could not be read", len(chosen) - len(readable))
    return readable


def _is_class_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _chosen(data: str, columns: Columns) -> dict[ImageFile, str | None]:
    """At most `MOST` images with their classes, each content once, the same on every call.

    They are drawn by content hash, which is as good as at random; without class folders, the
    images have no classes.
    """
    path = Path(data)
    if not path.exists():
        raise UsageError(
            f"Expected images for --calibrate. Received: {data}, which does not exist. "
            "Check the spelling and the current folder."
        )
    plain = path.is_dir() and not any(_is_class_folder(entry) for entry in path.iterdir())
    found = _unlabelled(path) if plain else _labelled(data, columns)
    drawn = sorted(found, key=lambda image: image.sha256)[:MOST]
    return {image: found[image] for image in drawn}


def _unlabelled(folder: Path) -> Mapping[ImageFile, str | None]:
    """The images of a folder without class folders, each content once."""
    paths = list(images.find_images([folder]))
    hashes = images.content_hashes(paths)
    named = {key: path for path, key in zip(paths, hashes, strict=True) if isinstance(key, str)}
    return {ImageFile(path, key): None for key, path in named.items()}


def _labelled(data: str, columns: Columns) -> Mapping[ImageFile, str | None]:
    listing = images.scan(data, columns=columns)
    return {ImageFile(image.path, image.sha256): image.label for image in listing.images}
