"""Pixels of DICOM files, as medical devices write them, by pydicom where it is installed."""

import importlib.util
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlcli.errors import BadImage

BEGINS, AT = b"DICM", 128
"""What stands where in such a file."""


def opened(file: BinaryIO) -> Image.Image:
    """Return the first picture of a DICOM file in mode L or RGB, as its own window shows it.

    Grey values are those of the first window that the file names (PS3.3 C.11.2.1.2), or without
    one from the smallest to the largest value; MONOCHROME1 is inverted, palettes become RGB.

    Raises:
        BadImage: pydicom is missing, or the file holds no picture that it can read.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise BadImage("DICOM, which needs pydicom: pip install 'tlcli[dicom]'")
    import pydicom
    from pydicom.errors import InvalidDicomError

    file.seek(0)
    try:
        dataset = pydicom.dcmread(file)
        _require_picture(dataset)
        image = Image.fromarray(_eight_bits(dataset))
    except (InvalidDicomError, NotImplementedError, AttributeError, KeyError) as error:
        raise BadImage(f"DICOM that cannot be read ({' '.join(str(error).split())})") from error
    image.format = "DICOM"
    return image


def _require_picture(dataset: Any) -> None:
    if "PixelData" not in dataset:
        raise BadImage("DICOM without a picture, as reports and directories are")
    if dataset.Rows * dataset.Columns > 2 * (Image.MAX_IMAGE_PIXELS or np.inf):
        raise BadImage("too many pixels: make the image smaller")


def _eight_bits(dataset: Any) -> NDArray[np.uint8]:
    """The picture as (H, W) or (H, W, 3)."""
    from pydicom.pixels import processing
    from pydicom.pixels.utils import pixel_array

    values = pixel_array(dataset, index=0)
    kind = dataset.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        values = processing.apply_color_lut(values, dataset)
    if values.ndim == 3:
        return _scaled(values, 0, np.iinfo(values.dtype).max)
    values = processing.apply_modality_lut(values, dataset)
    window = _window(dataset)
    if window is None:
        values = processing.apply_voi_lut(values, dataset)
    grey = _scaled(values, *(window or (values.min(), values.max())))
    return 255 - grey if kind == "MONOCHROME1" else grey


def _window(dataset: Any) -> tuple[float, float] | None:
    """The values that are black and white; None where the file does not say."""
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or width <= 1:
        return None
    half = (width - 1) / 2
    return centre - 0.5 - half, centre - 0.5 + half


def _first(value: Any) -> float | None:
    if value is None or isinstance(value, str | int | float):
        return None if value is None else float(value)
    return float(value[0]) if len(value) else None


def _scaled(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    share = (values.astype(np.float64) - black) / max(white - black, 1e-9)
    return np.asarray(np.rint(np.clip(share, 0, 1) * 255), np.uint8)
