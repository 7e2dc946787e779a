"""What Python code hands over as an image → a file's path, a file's bytes, or pixels."""

import io
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlcli.errors import BadImage, UsageError
from tlcli.images.decoding import decode
from tlcli.images.reading import readable
from tlcli.images.scanning import find_images
from tlcli.images.square import Square
from tlcli.urls import Place

Given = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | NDArray[np.uint8]
    | Image.Image
)
"""One image, or with a path a folder or a pattern."""

Item = Place | bytes | NDArray[np.uint8] | BadImage
"""A file, a file's bytes, an image (S, S, 3) as `decode` returns it, or why there is none."""


def taken(given: Given | Iterable[Given], square: Square) -> Iterator[Item]:
    """Yield what was given, one image or many, in its order and as it is asked for.

    Args:
        given: see `Given`; an array (n, H, W, 3) is many images.
        square: what arrays and PIL images are drawn to.

    Raises:
        UsageError: something is no image.
        DataError: a folder may not be read.
    """
    for one in [given] if _is_one(given) else cast(Iterable[Given], given):
        if isinstance(one, str | os.PathLike):
            yield from find_images([os.fsdecode(one)])
        else:
            yield _item(one, square)


def _is_one(given: Any) -> bool:
    if isinstance(given, np.ndarray):
        return given.ndim != 4
    single = isinstance(given, str | os.PathLike | bytes | bytearray | memoryview | Image.Image)
    return single or hasattr(given, "read") or not isinstance(given, Iterable)


def _item(one: Any, square: Square) -> Item:
    try:
        if isinstance(one, np.ndarray):
            return decode(_pixels(one), square)
        if isinstance(one, Image.Image):
            return decode(one, square)
        return _content(one)
    except BadImage as error:
        return error


def _pixels(array: NDArray[Any]) -> NDArray[np.uint8]:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shaped:
        raise UsageError(
            "Expected an array (H, W, 3) in RGB, (H, W, 4) or (H, W), of uint8. Received: shape "
            f"{array.shape} of {array.dtype}. Convert it, with values from 0 to 255."
        )
    if not array.size:
        raise BadImage("the array has no pixels")
    return array


def _content(one: Any) -> bytes:
    """The bytes of a file that was given as such, or open."""
    content = _read(one) if hasattr(one, "read") and not isinstance(one, io.TextIOBase) else one
    if not isinstance(content, bytes | bytearray | memoryview):
        raise UsageError(
            "Expected an image: a path, the bytes of a file, an open binary file, a NumPy array or "
            f"a PIL image. Received: {type(one).__name__}. Convert it to one of these."
        )
    return bytes(content)


def _read(file: Any) -> object:
    """What an open file holds from its beginning, or where it has none, as a socket, from now."""
    try:
        seekable = getattr(file, "seekable", None)
        if seekable is not None and seekable():
            file.seek(0)
        return file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise BadImage(readable(error)) from error
