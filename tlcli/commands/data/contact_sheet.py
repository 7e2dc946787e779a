"""A contact sheet of augmented images: what a network in training will see."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tlcli import backbones, files, images, training
from tlcli.config import SheetConfig
from tlcli.errors import BadImage, DataError, UsageError
from tlcli.images import LabelledImage

ROWS, COLUMNS = 8, 8

TILE = 160

GAP = 4

CAPTION = 14
"""Pixels above each row."""

Pixels = NDArray[np.uint8]


def contact_sheet(config: SheetConfig) -> None:
    """Write a PNG: an image a row, one of each class while there are any, and its random changes.

    The left column shows the images as they are.

    Raises:
        UsageError: there is no such preset, or the file is no PNG by its name.
        DataError: no image can be read.
        StorageError: the file cannot be written.
    """
    _require(config)
    chosen, originals = _chosen(config)
    names = sorted({image.label for image in chosen})
    labels = np.eye(len(names), dtype=np.float32)[[names.index(i.label) for i in chosen]]
    tiles = [originals, *_changed(originals, labels, config)]
    sheet = _sheet(tiles, [f"{image.label}  {image.path.name}" for image in chosen])
    with files.published(config.sheet) as stream:
        sheet.save(stream, "PNG")


def _require(config: SheetConfig) -> None:
    """Refuse what cannot be meant, and a place that cannot be written to, before any work."""
    training.require_known(config.augment, training.SHEETS)
    if config.data == "-":
        raise UsageError(
            "Expected a folder or a table with --sheet. Received: data='-', which can be read "
            "once. Write the lines to a file."
        )
    if config.sheet.suffix.lower() != ".png":
        raise UsageError(
            f"Expected a file that ends in .png. Received: sheet={str(config.sheet)!r}. Rename it."
        )
    files.require_folder(config.sheet, "--sheet")


def _chosen(config: SheetConfig) -> tuple[list[LabelledImage], Pixels]:
    """As many readable images as there are rows, with their pixels."""
    ordered = _in_turns(images.scan(config.data, columns=config.columns).images)
    with closing(images.decode_many(ordered, images.Square(TILE))) as decoded:
        readable = (
            (image, picture)
            for image, picture in zip(ordered, decoded, strict=True)
            if not isinstance(picture, BadImage)
        )
        chosen = list(islice(readable, ROWS))
    if not chosen:
        raise DataError(
            f"Expected images. Received: none that can be read in {config.data}. Repair them, or "
            "give others."
        )
    return [image for image, _ in chosen], np.stack([picture for _, picture in chosen])


def _in_turns(found: Iterable[LabelledImage]) -> list[LabelledImage]:
    """The first image of each class, then the second …, in the order of the classes."""
    seen: Counter[str] = Counter()
    ranked = []
    for image in found:
        seen[image.label] += 1
        ranked.append((seen[image.label], image.label, image))
    return [image for *_, image in sorted(ranked, key=lambda entry: entry[:2])]


def _changed(originals: Pixels, labels: NDArray[np.float32], config: SheetConfig) -> list[Pixels]:
    """One batch of changed images a column."""
    keras = backbones.keras_module()
    changes = training.augmenter(config.augment, config.seed)
    raw = keras.ops.convert_to_tensor(originals.astype(np.float32))
    columns = []
    for _ in range(COLUMNS - 1):
        mixed, _ = changes.mix(changes.change(raw), keras.ops.convert_to_tensor(labels))
        columns.append(np.clip(keras.ops.convert_to_numpy(mixed), 0, 255).astype(np.uint8))
    return columns


def _sheet(columns: Sequence[Pixels], captions: Sequence[str]) -> Image.Image:
    """The tiles side by side, each row under its caption."""
    step = TILE + GAP
    size = (len(columns) * step + GAP, len(captions) * (step + CAPTION) + GAP)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, caption in enumerate(captions):
        top = GAP + row * (step + CAPTION)
        pen.text((GAP, top), caption, fill="black")
        for column, tiles in enumerate(columns):
            sheet.paste(Image.fromarray(tiles[row]), (GAP + column * step, top + CAPTION))
    return sheet
