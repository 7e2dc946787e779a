"""Colour profiles: pixels that a file tags as another colour space → sRGB.

A profile that cannot be read, or that is of other pixels than the file's, is left alone, and so is
sRGB in all its editions: a profile counts as sRGB where it changes no colour of a grid by more than
`SAME` levels, so such files keep their pixels and cost nothing.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

SAME = 2
"""Levels of 255."""

GRID = 17
"""Levels of each colour that are tried."""

KEPT = 64
"""Profiles whose conversion is remembered."""

# A conversion with the one-pixel cache of LittleCMS may not be shared by threads.
_FLAGS = ImageCms.Flags.NOCACHE

_COLOURS = {
    "1": "L",
    "L": "L",
    "LA": "L",
    "La": "L",
    "P": "RGB",
    "PA": "RGB",
    "RGB": "RGB",
    "RGBA": "RGB",
    "RGBa": "RGB",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "CMYK": "CMYK",
}
"""Mode of an image → the mode of its colours that a profile is applied to. LAB needs none."""

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""Mode of colours → the colour space that its profile must be of."""


@dataclass(frozen=True)
class _Profile:
    """A profile, known by its hash."""

    digest: bytes
    content: bytes = field(compare=False, repr=False)


def conversion(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """What turns an image's colours, in the mode that `colours_of` gives, into sRGB.

    None where its pixels are taken as they are. Threads may share it.
    """
    content, mode = image.info.get("icc_profile"), _COLOURS.get(image.mode)
    if not content or not isinstance(content, bytes) or mode is None:
        return None
    return _transform(_Profile(sha256(content).digest(), content), mode)


def colours_of(image: Image.Image) -> Image.Image:
    """The colours of an opaque image, or of RGBA, in the mode that profiles are applied to."""
    return image.convert(_COLOURS[image.mode])


@lru_cache(KEPT)
def _transform(profile: _Profile, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(profile.content))
        if opened.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(
            opened, _srgb(), mode, "RGB", ImageCms.Intent.PERCEPTUAL, _FLAGS
        )
        return None if _changes_nothing(transform, mode) else transform
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode not in _PROBES:
        return False
    probe = _PROBES[mode]
    given = np.asarray(probe.convert("RGB"), np.int16)
    return int(np.abs(np.asarray(transform.apply(probe), np.int16) - given).max()) <= SAME


@lru_cache(1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _cube() -> NDArray[np.uint8]:
    levels = np.linspace(0, 255, GRID).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    return colours.reshape(GRID, GRID * GRID, 3)


_PROBES = {
    "L": Image.fromarray(np.arange(256, dtype=np.uint8)[None]),
    "RGB": Image.fromarray(_cube()),
}
"""Colours that tell whether a profile changes anything; ink is never sRGB."""
