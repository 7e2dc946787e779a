"""One image to (size, size, 3) RGB; whatever a broken file can cause becomes BadImage.

Two decisions hold for every thread:

- Only the formats of `FORMATS` are tried, chosen by content, never by suffix. PostScript, PDF and
  metafiles stay out: reading those starts other programs.
- Warnings that Pillow raises about a file (corrupt EXIF, very many pixels, odd palettes) are
  neither shown nor turned into errors: the file decodes or it is a BadImage. `catch_warnings` is
  not thread-safe, so one filter for Pillow's own modules is put in front of the others and stays.
"""

import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

# The plugins register their format when imported; Image.open would otherwise import every plugin.
from PIL import (  # noqa: F401
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from PIL.ImageCms import PyCMSError

from tlcli.errors import BadImage
from tlcli.images.reading import PROCESSORS, map_ahead, reading
from tlcli.images.scanning import ImageFile

# JPEG includes MPO, its form with several pictures. TGA has no signature: it is tried last.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO", "TGA")

# What Pillow's readers raise on damaged bytes: the first six were met when files of every format
# were mutated, the others stand in the readers' sources.
FAILURES = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    RuntimeError,
    Image.DecompressionBombError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    PyCMSError,
)

BAND_ROWS = 256

AHEAD = 8 * PROCESSORS

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# (offset, bytes there, what the file is): named when no reader takes it.
SIGNATURES = (
    (0, b"\xff\xd8\xff", "a damaged JPEG"),
    (0, b"\x89PNG", "a damaged PNG"),
    (0, b"GIF8", "a damaged GIF"),
    (0, b"BM", "a damaged BMP"),
    (0, b"II*\0", "a TIFF that is damaged or of an unusual kind"),
    (0, b"MM\0*", "a TIFF that is damaged or of an unusual kind"),
    (0, b"RIFF", "a damaged WebP or another RIFF file"),
    (4, b"ftypavif", "a damaged AVIF"),
    (4, b"ftyphei", "HEIC, which is not supported: convert it to JPEG"),
    (4, b"ftypmif1", "HEIF, which is not supported: convert it to JPEG"),
    (0, b"8BPS", "a Photoshop document: export it as PNG"),
    (0, b"%PDF", "a PDF: export its pages as PNG"),
    (0, b"%!PS", "PostScript: convert it to PNG"),
    (0, b"<svg", "SVG: convert it to PNG"),
    (0, b"<?xml", "XML or SVG: convert it to PNG"),
    (0, b"<!DOCTYPE", "a web page, not an image"),
    (0, b"<!doctype", "a web page, not an image"),
    (0, b"<html", "a web page, not an image"),
    (0, b"PK\x03\x04", "a ZIP archive: unpack it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
)

Source = Path | bytes | Image.Image | NDArray[np.uint8]
"""A file, a file's bytes, or an image whose file somebody else has decoded: an array is (H, W, 3),
(H, W, 4) or (H, W)."""

_PILLOW_ONLY = re.compile(r"PIL\.")
_FILTER = ("ignore", None, Warning, _PILLOW_ONLY, 0)
_filter_lock = threading.Lock()


def decode(source: Source, size: int) -> NDArray[np.uint8]:
    """Return the image as upright RGB, squashed to a square.

    The first frame of an animation; EXIF orientation applied; transparency over white; 16-bit
    grey divided by 257. Bilinear with antialias. JPEGs of at least four times `size` on both
    sides are decoded at 1/2, 1/4 or 1/8 first, which changes no smaller image, and none that was
    decoded before.

    Args:
        source: a file, its bytes, or its pixels; a PIL image is loaded and not changed.
        size: side of the square in pixels.

    Returns:
        (size, size, 3) uint8, writable.

    Raises:
        BadImage: the file cannot be read or decoded; the message is the reason, without the path.
    """
    with opened(source) as image:
        return squash(image, size)


def decode_many(
    images: Sequence[ImageFile],
    size: int,
    workers: int = PROCESSORS,
    *,
    ahead: int = AHEAD,
) -> Generator[NDArray[np.uint8] | BadImage, None, None]:
    """Yield each image's pixels, or the BadImage it raised, in input order.

    A file whose bytes are no longer those that were listed is a BadImage too: what is computed
    from its pixels would be kept under the wrong hash.

    Args:
        images: the files, with the hash of their content.
        size: side of the square in pixels.
        workers: threads that decode.
        ahead: most images decoded but not yet taken; each holds 3 × size² bytes.

    Closing the generator stops it after the images that are being decoded.
    """
    return map_ahead(partial(_decode_or_error, size=size), images, workers, ahead)


def _decode_or_error(image: ImageFile, size: int) -> NDArray[np.uint8] | BadImage:
    try:
        with _stream(image.path if image.content is None else image.content) as file:
            content = file.read()
        if sha256(content).hexdigest() != image.sha256:
            raise BadImage("the file was changed while it was in use")
        return decode(content, size)
    except BadImage as error:
        return error


@contextmanager
def opened(source: Source) -> Iterator[Image.Image]:
    """Open an image lazily; every failure until the end of the block becomes BadImage."""
    hush_pillow()
    given = _stream(source) if isinstance(source, Path | bytes) else nullcontext(source)
    with given as file_or_pixels:
        try:
            with _image(file_or_pixels) as image:
                yield image
        except FAILURES as error:
            raise BadImage(_reason(error)) from error


def squash(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Decode an opened image to (size, size, 3) uint8. Raises what Pillow raises, or BadImage."""
    upright = _loaded(image, size)
    return np.array(upright.resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)


def thumbnail(source: Path | bytes, size: int) -> bytes:
    """Return the image, decoded as by `decode` but with its proportions, as a small JPEG.

    Args:
        source: a file, or a file's bytes.
        size: most pixels of its longer side.

    Raises:
        BadImage: the file cannot be read or decoded.
    """
    stream = io.BytesIO()
    with opened(source) as image:
        upright = _loaded(image, size)
        upright.thumbnail((size, size), Image.Resampling.BILINEAR)
        upright.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _loaded(image: Image.Image, size: int) -> Image.Image:
    """The whole image in RGB and upright; a large JPEG at a fraction of its size."""
    _require_all_pixels(image)
    image.draft(None, (2 * size, 2 * size))
    image.load()
    return _upright(to_rgb(image), _orientation(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image of any mode in mode RGB, transparency composited over white.

    Raises:
        BadImage: the pixels are floating-point numbers.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise BadImage(
            "floating-point pixels, whose black and white points are unknown: "
            "convert the image to 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    return _over_white(image) if image.has_transparency_data else image.convert("RGB")


def hush_pillow() -> None:
    """Make Pillow's own modules silent in this process, also where warnings are errors.

    Other code may have changed the filters since, so this is asked for before every image and
    costs one comparison when nothing changed.
    """
    with _filter_lock:
        if not warnings.filters or warnings.filters[0] != _FILTER:
            warnings.filterwarnings("ignore", module=_PILLOW_ONLY.pattern)


def _stream(source: Path | bytes) -> AbstractContextManager[BinaryIO]:
    return nullcontext(io.BytesIO(source)) if isinstance(source, bytes) else reading(source)


def _image(
    given: BinaryIO | Image.Image | NDArray[np.uint8],
) -> AbstractContextManager[Image.Image]:
    if isinstance(given, np.ndarray):
        return Image.fromarray(given)
    return _settled(given) if isinstance(given, Image.Image) else _identify(given)


def _settled(image: Image.Image) -> AbstractContextManager[Image.Image]:
    """An image that belongs to the caller: left open, and loaded, so that no draft shrinks it."""
    _require_all_pixels(image)
    image.load()
    return nullcontext(image)


def _identify(file: BinaryIO) -> Image.Image:
    """Return the image as its format's reader opens it; raises BadImage when none takes it."""
    head = file.read(32)
    if not head:
        raise BadImage("the file is empty")
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise BadImage(_kind(head)) from error


def _kind(head: bytes) -> str:
    for offset, signature, kind in SIGNATURES:
        if head.startswith(signature, offset):
            return kind
    return "not an image in a supported format (" + ", ".join(FORMATS) + ")"


def _reason(error: BaseException) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels: make the image smaller"
    if isinstance(error, MemoryError):
        return "damaged, or too large for this machine's memory"
    detail = " ".join(str(error).split()) or type(error).__name__
    return f"damaged or truncated image ({detail})"


def _orientation(image: Image.Image) -> object:
    """Return the EXIF orientation, 1 where it is absent; damage in the EXIF harms no image."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except FAILURES:
        return 1


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    method = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Scale 0–65535 to 0–255, band by band so that large scans need little extra memory."""
    width, height = image.size
    grey = np.empty((height, width), dtype=np.uint8)
    for top in range(0, height, BAND_ROWS):
        band = np.asarray(image.crop((0, top, width, min(top + BAND_ROWS, height))))
        grey[top : top + BAND_ROWS] = _scaled(band, image.info.get("transparency"))
    return grey


def _scaled(values: NDArray[Any], transparent: object) -> NDArray[np.uint8]:
    """Divide by 257, rounded; values outside are clipped, the transparent one turns white."""
    wide: NDArray[np.uint32] = np.clip(values, 0, 65535).astype(np.uint32)
    grey = ((wide + 128) // 257).astype(np.uint8)
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return grey


def _over_white(image: Image.Image) -> Image.Image:
    straight = image.convert("LA") if image.mode == "La" else image
    colours = straight if straight.mode == "RGBA" else straight.convert("RGBA")
    canvas = Image.new("RGB", colours.size, "white")
    canvas.paste(colours, mask=colours)
    return canvas


def _require_all_pixels(image: Image.Image) -> None:
    """Refuse a TIFF whose strips end before the image does: the rest would decode as blank."""
    tiles = image.tile if isinstance(image, TiffImagePlugin.TiffImageFile) else []
    corners = [tile.extents[2:] for tile in tiles if tile.extents is not None]
    if not corners:
        return
    covered = max(x for x, _ in corners), max(y for _, y in corners)
    if sorted(covered) != sorted(image.size):  # the sides of a rotated TIFF are swapped
        raise BadImage("damaged or truncated image (part of the pixels are missing)")
