"""One image to (S, S, 3) RGB; whatever a broken file can cause becomes BadImage.

Warnings that Pillow or pydicom raises about a file (corrupt EXIF, very many pixels, odd palettes)
are neither shown nor turned into errors: the file decodes or it is a BadImage. `catch_warnings` is
not thread-safe, so one filter for their own modules is put in front of the others and stays.
"""

import io
import re
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, features
from PIL.ImageCms import ImageCmsTransform

from tlcli.errors import BadImage
from tlcli.images import colours, depths, dicom
from tlcli.images.identifying import FAILURES, identify, reason_of, require_all_pixels
from tlcli.images.reading import PROCESSORS, map_ahead, reading
from tlcli.images.scanning import ImageFile
from tlcli.images.square import Square
from tlcli.urls import READERS, Place, Url

AHEAD = 8 * PROCESSORS

# Those whose version may change a pixel.
_LIBRARIES = ("libjpeg_turbo", "jpg", "jpg_2000", "webp", "avif", "libtiff", "littlecms2")

_EDITION = 2
"""Of what this package makes of the pixels that Pillow gives."""


def _decoder() -> str:
    versions = [f"{name} {features.version(name)}" for name in _LIBRARIES]
    versions += [f"{name} {version}" for name, version in dicom.versions().items()]
    digest = sha256("\n".join([str(_EDITION), *versions]).encode()).hexdigest()
    return f"pillow {PIL.__version__} {digest[:8]}"


DECODER = _decoder()
"""What turns a file into pixels, for people and as part of keys: where it is the same, so are they.

Pillow's version and a digest of its libraries' versions and of this package's own edition."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Source = Place | bytes | Image.Image | NDArray[np.uint8]
"""A file, a file's bytes, or an image whose file somebody else has decoded: an array is (H, W, 3),
(H, W, 4) or (H, W)."""

_PILLOW_ONLY = re.compile(r"(?:PIL|pydicom)\.")

_FILTER = ("ignore", None, Warning, _PILLOW_ONLY, 0)

_filter_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class Drawn:
    """An image as it is drawn to a square."""

    pixels: NDArray[np.uint8]
    """(S, S, 3), writable."""
    levels: int
    """From the smallest to the largest value, of 255, of the colour where these differ most; bars
    around the image do not count."""


def decode(source: Source, square: Square) -> NDArray[np.uint8]:
    """Return the image as upright RGB, drawn to a square.

    The first frame that is shown; EXIF orientation applied; colours in sRGB; transparency over
    white; 16-bit grey scaled from black to white as the file says. Bilinear with antialias. JPEGs
    of at least four times the square on both sides are decoded at 1/2, 1/4 or 1/8 first, which
    changes no smaller image, and none that was decoded before.

    Args:
        source: a file, its bytes, or its pixels; a PIL image is loaded and not changed.
        square: its side, and how images are fitted into it.

    Returns:
        (S, S, 3) uint8, writable.

    Raises:
        BadImage: the file cannot be read or decoded; the message is the reason, without the path.
    """
    with opened(source) as image:
        return draw(image, square).pixels


def decode_many(
    images: Sequence[ImageFile],
    square: Square,
    workers: int = PROCESSORS,
    *,
    ahead: int = AHEAD,
) -> Generator[NDArray[np.uint8] | BadImage, None, None]:
    """Yield each image's pixels, or the BadImage it raised, in input order; see `draw_many`."""
    drawn = draw_many(images, square, workers, ahead=ahead)
    with closing(drawn):
        for result in drawn:
            yield result.pixels if isinstance(result, Drawn) else result


def draw_many(
    images: Sequence[ImageFile],
    square: Square,
    workers: int = PROCESSORS,
    *,
    ahead: int = AHEAD,
) -> Generator[Drawn | BadImage, None, None]:
    """Yield each image as it is drawn, or the BadImage it raised, in input order.

    A file whose bytes are no longer those that were listed is a BadImage too: what is computed
    from its pixels would be kept under the wrong hash.

    Args:
        images: the files, with the hash of their content.
        square: what they are drawn to.
        workers: threads that decode.
        ahead: most images decoded but not yet taken; each holds 3 × S² bytes.

    Closing the generator stops it after the images that are being decoded.
    """
    if any(isinstance(image.path, Url) for image in images):
        workers = max(workers, READERS)
    return map_ahead(partial(_drawn_or_error, square=square), images, workers, ahead)


def _drawn_or_error(image: ImageFile, square: Square) -> Drawn | BadImage:
    try:
        with _stream(image.path if image.content is None else image.content) as file:
            content = file.read()
        if sha256(content).hexdigest() != image.sha256:
            raise BadImage("the file was changed while it was in use")
        with opened(content) as opening:
            return draw(opening, square)
    except BadImage as error:
        return error


@contextmanager
def opened(source: Source) -> Iterator[Image.Image]:
    """Open an image lazily; every failure until the end of the block becomes BadImage."""
    hush_pillow()
    given = _stream(source) if isinstance(source, Place | bytes) else nullcontext(source)
    with given as file_or_pixels:
        try:
            with _image(file_or_pixels) as image:
                yield image
        except FAILURES as error:
            raise BadImage(reason_of(error)) from error


def draw(image: Image.Image, square: Square) -> Drawn:
    """Draw an opened image to a square. Raises what Pillow raises, or BadImage."""
    upright = _loaded(image, square.size, square.white_level)
    pixels = np.array(square.drawn(upright), dtype=np.uint8)
    return Drawn(square.filled(pixels), _levels(pixels))


def _levels(pixels: NDArray[np.uint8]) -> int:
    """Of (H, W, 3): from the smallest to the largest value of the colour where they differ most."""
    rows = pixels.reshape(len(pixels), -1)
    largest, smallest = (edge.reshape(-1, 3) for edge in (rows.max(axis=0), rows.min(axis=0)))
    return int((largest.max(axis=0) - smallest.min(axis=0)).max())


def thumbnail(source: Place | bytes, size: int) -> bytes:
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


def _loaded(image: Image.Image, size: int, white_level: int | None = None) -> Image.Image:
    """The whole image in RGB and upright; a large JPEG at a fraction of its size."""
    require_all_pixels(image)
    declared = depths.declared_white(image) if image.mode.startswith("I") else None
    image.draft(None, (2 * size, 2 * size))
    image.load()
    return _upright(to_rgb(image, declared, white_level), _orientation(image))


def _in_eight_bits(
    image: Image.Image, declared: int | None, white_level: int | None
) -> Image.Image:
    grey = Image.fromarray(depths.eight_bits(image, declared, white_level))
    if profile := image.info.get("icc_profile"):
        grey.info["icc_profile"] = profile
    return grey


def to_rgb(
    image: Image.Image, declared: int | None = None, white_level: int | None = None
) -> Image.Image:
    """Return a loaded image of any mode in mode RGB, by its colour profile.

    Transparency is composited over white.

    Args:
        image: its pixels.
        declared: the value of 16-bit grey that is white, as the file says.
        white_level: the one of files that say nothing.

    Raises:
        BadImage: the pixels are floating-point numbers.
    """
    if image.mode == "F":
        raise BadImage(
            "floating-point pixels, whose black and white points are unknown: "
            "convert the image to 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        image = _in_eight_bits(image, declared, white_level)
    conversion = colours.conversion(image)
    if image.has_transparency_data:
        return _over_white(image, conversion)
    if conversion is not None:
        return conversion.apply(colours.colours_of(image))
    return image if image.mode == "RGB" else image.convert("RGB")


def hush_pillow() -> None:
    """Make Pillow's own modules silent in this process, also where warnings are errors.

    Other code may have changed the filters since, so this is asked for before every image and
    costs one comparison when nothing changed.
    """
    with _filter_lock:
        if not warnings.filters or warnings.filters[0] != _FILTER:
            warnings.filterwarnings("ignore", module=_PILLOW_ONLY.pattern)


def _stream(source: Place | bytes) -> AbstractContextManager[BinaryIO]:
    return nullcontext(io.BytesIO(source)) if isinstance(source, bytes) else reading(source)


def _image(
    given: BinaryIO | Image.Image | NDArray[np.uint8],
) -> AbstractContextManager[Image.Image]:
    if isinstance(given, np.ndarray):
        return Image.fromarray(given)
    return _settled(given) if isinstance(given, Image.Image) else identify(given)


def _settled(image: Image.Image) -> AbstractContextManager[Image.Image]:
    """An image that belongs to the caller: left open, and loaded, so that no draft shrinks it."""
    require_all_pixels(image)
    image.load()
    return nullcontext(image)


def _orientation(image: Image.Image) -> object:
    """Return the EXIF orientation, 1 where it is absent; damage in the EXIF harms no image."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except FAILURES:
        return 1


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    method = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _over_white(image: Image.Image, conversion: ImageCmsTransform | None) -> Image.Image:
    straight = image.convert("LA") if image.mode == "La" else image
    seen = straight if straight.mode == "RGBA" else straight.convert("RGBA")
    canvas = Image.new("RGB", seen.size, "white")
    if conversion is None:
        canvas.paste(seen, mask=seen)
    else:
        canvas.paste(conversion.apply(seen.convert(conversion.input_mode)), mask=seen)
    return canvas
