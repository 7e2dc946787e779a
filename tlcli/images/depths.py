"""Grey of more than 8 bits → 8 bits, from black to white as the file says."""

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, Jpeg2KImagePlugin, PngImagePlugin, PpmImagePlugin, TiffImagePlugin

BAND_ROWS = 256

WHITE = 65535

MAX_SAMPLE_VALUES = (341, 281)
"""SMaxSampleValue and MaxSampleValue."""

_HEAD_BYTES = 2**20
"""What is searched for a declaration."""

_SIZ = b"\xff\x4f\xff\x51"
_SSIZ = 42
"""From the beginning of a JPEG 2000 codestream to the depth of its first component."""


def eight_bits(image: Image.Image, declared: int | None, chosen: int | None) -> NDArray[np.uint8]:
    """A loaded image (H, W) of mode I or I;16 in 8 bits.

    Scaled band by band, so that large scans need little extra memory.

    Args:
        image: its pixels.
        declared: what `declared_white` said before it was loaded.
        chosen: the white level of files that do not say theirs.
    """
    white = _white(image, declared) or chosen or WHITE
    width, height = image.size
    grey = np.empty((height, width), dtype=np.uint8)
    for top in range(0, height, BAND_ROWS):
        band = np.asarray(image.crop((0, top, width, min(top + BAND_ROWS, height))))
        grey[top : top + BAND_ROWS] = _scaled(band, image.info.get("transparency"), white)
    return 255 - grey if _is_negative(image) else grey


def _scaled(values: NDArray[Any], transparent: object, white: int) -> NDArray[np.uint8]:
    """Rounded; values outside are clipped, the transparent one turns white."""
    wide: NDArray[np.uint32] = np.clip(values, 0, white).astype(np.uint32)
    grey = ((wide * 255 + white // 2) // white).astype(np.uint8)
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return grey


def declared_white(image: Image.Image) -> int | None:
    """The value that is white, as the file of an opened image says, which is not loaded yet.

    None where it says nothing, or has all 16 bits. Pillow itself scales PPM and JPEG 2000.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _of_tiff(image)
    if isinstance(image, PngImagePlugin.PngImageFile):
        return _of_png(image)
    if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
        return _of_jpeg2000(image)
    return _of_ppm(image) if isinstance(image, PpmImagePlugin.PpmImageFile) else None


def _white(image: Image.Image, declared: int | None) -> int | None:
    """The white that was declared, where the values are such that it can be true.

    PNG says of how many bits its values were before they were scaled to 16. Where they lie in the
    lower bits they never were.
    """
    if declared is None or declared == WHITE:
        return declared
    values = np.asarray(image)
    possible = bool(values.max() <= declared)
    if isinstance(image, PngImagePlugin.PngImageFile):
        below = WHITE // (declared + 1)
        return declared if possible and ((values & below) > 1).any() else WHITE
    return declared if possible else None


def _is_negative(image: Image.Image) -> bool:
    """Whether it is a TIFF whose zero is white, which Pillow turns round in 8 bits alone."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0)


def _of_tiff(image: TiffImagePlugin.TiffImageFile) -> int | None:
    bits = _first(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE))
    for tag in MAX_SAMPLE_VALUES:
        largest = _first(image.tag_v2.get(tag))
        if largest is not None and largest > 0:
            bits = min(bits or 16, int(largest).bit_length())
    return _white_of_bits(bits)


def _first(value: Any) -> Any:
    """The first of the values of a tag, or its value; None where it is no number."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _white_of_bits(bits: int | None) -> int | None:
    return 2**bits - 1 if bits is not None and 8 <= bits < 16 else None


def _of_ppm(image: PpmImagePlugin.PpmImageFile) -> int | None:
    """Whites other than 65535 were scaled to it by Pillow's own decoder."""
    scaled = any(tile.codec_name == "ppm" for tile in image.tile)
    return WHITE if scaled else None


def _of_jpeg2000(image: Jpeg2KImagePlugin.Jpeg2KImageFile) -> int | None:
    """Samples of fewer bits were shifted up to 16 by Pillow's decoder."""
    head = _head(image, _HEAD_BYTES)
    at = head.find(_SIZ)
    depth = head[at + _SSIZ] % 128 + 1 if 0 <= at < len(head) - _SSIZ else 16
    return (2**depth - 1) << (16 - depth) if depth < 16 else None


def _of_png(image: PngImagePlugin.PngImageFile) -> int | None:
    """By its chunk sBIT, which comes before the pixels."""
    head = _head(image, _HEAD_BYTES)
    at = 8
    while at + 9 <= len(head) and head[at + 4 : at + 8] != b"IDAT":
        length, name = struct.unpack_from(">I4s", head, at)
        if name == b"sBIT":
            return _white_of_bits(head[at + 8])
        at += length + 12
    return None


def _head(image: ImageFile.ImageFile, most: int) -> bytes:
    """The beginning of an open image's file; its place in it is kept."""
    file = image.fp
    if file is None:
        return b""
    place = file.tell()
    try:
        file.seek(0)
        return file.read(most)
    finally:
        file.seek(place)
