"""The square that images are drawn to: its side, and what a run may choose of how."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlcli.errors import RunError, UsageError, require_choice

PAD = (124, 116, 104)
"""The mean of ImageNet's pixels: what networks that were trained on it see as nothing."""

DEFAULT_FIT = "squash"

MOST_WHITE = 65535


@dataclass(frozen=True)
class Fit:
    """How an image that is no square becomes one."""

    says: str
    drawn: Callable[[Image.Image, int], Image.Image]
    """From an RGB image and S to what is drawn of it, at most S pixels wide and high; a square
    that it does not fill is padded around it."""


def _squashed(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _whole(image: Image.Image, size: int) -> Image.Image:
    longer = max(image.size)
    width, height = (max(1, round(side / longer * size)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _centre(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


FITS: dict[str, Fit] = {
    "squash": Fit("the whole image, its proportions lost", _squashed),
    "pad": Fit("the whole image in its proportions, with grey bars", _whole),
    "crop": Fit("the square in its middle", _centre),
}


@dataclass(frozen=True)
class Square:
    """The square that images are drawn to."""

    size: int
    """Side in pixels."""
    fit: str = DEFAULT_FIT
    """One of `FITS`."""
    white_level: int | None = None
    """The value of 16-bit grey that is white, in files that do not say so themselves; None: the
    largest, 65535."""

    @staticmethod
    def of(size: int, choices: Mapping[str, Any]) -> "Square":
        """The inverse of `choices`.

        Raises:
            RunError: a newer program made them.
        """
        try:
            square = Square(size, **choices)
            square.require()
        except (TypeError, UsageError) as error:
            raise RunError(
                f"Expected images drawn in a way that is known. Received: {dict(choices)}. "
                "Update this program."
            ) from error
        return square

    @property
    def choices(self) -> dict[str, Any]:
        """What was chosen otherwise than by default: with the size, all that decides pixels."""
        usual = asdict(Square(self.size))
        return {name: value for name, value in asdict(self).items() if value != usual[name]}

    @property
    def described(self) -> str:
        """Like "224 pixels, fit squash", for a message."""
        white = "" if self.white_level is None else f", white level {self.white_level}"
        return f"{self.size} pixels, fit {self.fit}{white}"

    def to_json(self) -> dict[str, Any]:
        """All that decides pixels, for those who draw images themselves."""
        return asdict(self)

    def require(self) -> None:
        """Raise UsageError where there is no such fit or white level."""
        require_choice("a fit", self.fit, FITS)
        if self.white_level is not None and not 1 <= self.white_level <= MOST_WHITE:
            raise UsageError(
                f"Expected a white level from 1 to {MOST_WHITE}. Received: "
                f"white-level={self.white_level}. For 12 bits it is 4095."
            )

    def drawn(self, image: Image.Image) -> Image.Image:
        """What is drawn of an RGB image, without the bars around it."""
        return FITS[self.fit].drawn(image, self.size)

    def filled(self, drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The square (S, S, 3), with bars where what is drawn (h, w, 3) does not fill it."""
        height, width, _ = drawn.shape
        if height == width == self.size:
            return drawn
        canvas = np.full((self.size, self.size, 3), PAD, np.uint8)
        top, left = round((self.size - height) / 2), round((self.size - width) / 2)
        canvas[top : top + height, left : left + width] = drawn
        return canvas
