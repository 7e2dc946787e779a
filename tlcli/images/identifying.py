"""What kind of image a file is, told by its content; and what a reader raises on a broken one.

Only the formats of `FORMATS` are tried, chosen by content, never by suffix. PostScript, PDF and
metafiles stay out: reading those starts other programs.
"""

import struct
import zlib
from typing import BinaryIO

# The plugins register their format when imported; Image.open would otherwise import every plugin.
from PIL import (  # noqa: F401
    AvifImagePlugin,
    BmpImagePlugin,
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
from tlcli.images import dicom

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

# Tags of a TIFF's page, and what they say of it.
NEW_SUBFILE_TYPE, REDUCED, MASK = 254, 1, 4

SUBFILE_TYPE, OLD_REDUCED = 255, 2

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


def identify(file: BinaryIO) -> Image.Image:
    """Return the image as its format's reader opens it; raises BadImage when none takes it."""
    head = file.read(dicom.AT + len(dicom.BEGINS))
    if not head:
        raise BadImage("the file is empty")
    if head.startswith(dicom.BEGINS, dicom.AT):
        return dicom.opened(file)
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise BadImage(_kind(head)) from error
    _seek_shown(image)
    return image


def _seek_shown(image: Image.Image) -> None:
    """Go to the first frame that is shown, where that is not the first of the file.

    The default image of an animated PNG need not be part of the animation; the first pages of a
    TIFF may be a small copy, or a mask, of a page to come.
    """
    if isinstance(image, PngImagePlugin.PngImageFile) and image.default_image:
        image.seek(1)
    elif isinstance(image, TiffImagePlugin.TiffImageFile) and _is_aside(image):
        for page in range(1, image.n_frames):
            image.seek(page)
            if not _is_aside(image):
                return
        image.seek(0)


def _is_aside(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether a page of a TIFF is a small copy or a mask of another one."""
    kind, old_kind = image.tag_v2.get(NEW_SUBFILE_TYPE, 0), image.tag_v2.get(SUBFILE_TYPE, 1)
    return bool(isinstance(kind, int) and kind & (REDUCED | MASK)) or old_kind == OLD_REDUCED


def _kind(head: bytes) -> str:
    for offset, signature, kind in SIGNATURES:
        if head.startswith(signature, offset):
            return kind
    return "not an image in a supported format (" + ", ".join(FORMATS) + ")"


def reason_of(error: BaseException) -> str:
    """What one of `FAILURES` means for the user."""
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels: make the image smaller"
    if isinstance(error, MemoryError):
        return "damaged, or too large for this machine's memory"
    detail = " ".join(str(error).split()) or type(error).__name__
    return f"damaged or truncated image ({detail})"


def require_all_pixels(image: Image.Image) -> None:
    """Refuse a TIFF whose strips end before the image does: the rest would decode as blank."""
    tiles = image.tile if isinstance(image, TiffImagePlugin.TiffImageFile) else []
    corners = [tile.extents[2:] for tile in tiles if tile.extents is not None]
    if not corners:
        return
    covered = max(x for x, _ in corners), max(y for _, y in corners)
    if sorted(covered) != sorted(image.size):  # the sides of a rotated TIFF are swapped
        raise BadImage("damaged or truncated image (part of the pixels are missing)")
