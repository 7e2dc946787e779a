"""What a file says of its colours, depth and frames: every mode, depth and profile, on generated
files whose pixels are worked out without Pillow."""

import io
import struct
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from tests.support import profiles
from tests.support.arrays import Doubles, Pixels
from tlcli.images import FITS, FORMATS, ImageFile, Square, decode, decode_many, draw_many
from tlcli.images.decoding import Drawn, draw, opened
from tlcli.images.square import PAD

SIDE = 16
PLAIN = Square(SIDE)

GREY = np.tile(np.linspace(0, 255, SIDE).round().astype(np.uint8), (SIDE, 1))
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
COLOUR = np.stack(
    [40 + 170 * ROWS, 60 + 150 * COLUMNS, 200 - 120 * ROWS * COLUMNS], axis=-1
).astype(np.uint8)
OPAQUE = np.where(ROWS < 0.5, 255, 0).astype(np.uint8)
LAB = np.stack([20 + 70 * ROWS, 25 * COLUMNS - 10, 20 - 30 * ROWS], axis=-1).round()


def over_white(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.where(OPAQUE[..., None] == 255, pixels, 255)


def grey_of(values: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(np.asarray(values)[..., None], 3, axis=-1)


def paletted() -> Image.Image:
    image = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE), "P")
    image.putpalette(COLOUR.reshape(-1).tolist())
    return image


def of_ycbcr(values: Pixels) -> Doubles:
    y, cb, cr = np.moveaxis(np.asarray(values, float), -1, 0)
    cb, cr = cb - 128, cr - 128
    mixed = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
    found: Doubles = np.clip(np.stack(mixed, axis=-1), 0, 255)
    return found


def of_cmyk(values: Pixels) -> Doubles:
    light = 255 - np.asarray(values, float)
    found: Doubles = light[..., :3] * light[..., 3:] / 255
    return found


INKS = np.dstack([COLOUR, (GREY // 3)[..., None]])
YCBCR = np.stack([60 + 130 * ROWS, 110 + 40 * COLUMNS, 150 - 40 * ROWS], axis=-1).astype(np.uint8)

PICTURES = {  # mode → the image, and what it is in RGB
    "1": (Image.fromarray(GREY > 127), grey_of(np.where(GREY > 127, 255, 0))),
    "L": (Image.fromarray(GREY), grey_of(GREY)),
    "LA": (Image.fromarray(np.dstack([GREY, OPAQUE])), over_white(grey_of(GREY))),
    "P": (paletted(), COLOUR),
    "RGB": (Image.fromarray(COLOUR), COLOUR),
    "RGBA": (Image.fromarray(np.dstack([COLOUR, OPAQUE])), over_white(COLOUR)),
    "CMYK": (Image.fromarray(INKS, "CMYK"), of_cmyk(INKS)),
    "YCbCr": (Image.fromarray(YCBCR, "YCbCr"), of_ycbcr(YCBCR)),
    "LAB": (
        Image.merge(
            "LAB",
            [
                Image.fromarray((LAB[..., 0] * 2.55).round().astype(np.uint8)),
                *(Image.fromarray((LAB[..., n] + 128).astype(np.uint8)) for n in (1, 2)),
            ],
        ),
        profiles.lab_in_srgb(LAB),
    ),
    "I;16": (Image.fromarray(GREY.astype(np.uint16) * 257), grey_of(GREY)),
    "I": (Image.fromarray(GREY.astype(np.int32) * 257), grey_of(GREY)),
}

Options = dict[str, dict[str, Any]]
LOSSLESS: Options = {
    "WEBP": {"lossless": True, "exact": True},
    "JPEG2000": {"irreversible": False},
}
LOSSY: Options = {
    "JPEG": {"quality": 98, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "GIF": {},
}
TOLERANCES = {"JPEG": 14, "AVIF": 20, "GIF": 24}
"""Levels; for the others 2."""


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **(LOSSLESS.get(kind, {}) | LOSSY.get(kind, {}) | options))
    return file.getvalue()


DROPPED = {
    *(("RGBA", "BMP"), ("RGBA", "PPM"), ("LA", "GIF")),  # their transparency
    *((mode, kind) for mode in ("I", "I;16") for kind in ("WEBP", "AVIF", "GIF")),  # all above 255
}
"""What Pillow writes otherwise than it was told."""


def can_write(mode: str, kind: str) -> bool:
    if (mode, kind) in DROPPED:
        return False
    try:
        return bool(encoded(PICTURES[mode][0], kind))
    except (OSError, ValueError, KeyError):
        return False


WRITTEN = [(mode, kind) for mode in PICTURES for kind in FORMATS if can_write(mode, kind)]
TAGGED = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF")


def assert_close(pixels: Pixels, expected: NDArray[Any], most: int) -> None:
    assert pixels.shape == np.shape(expected)
    assert np.abs(pixels.astype(float) - expected).max() <= most


def test_enough_is_generated() -> None:
    assert {mode for mode, _ in WRITTEN} == set(PICTURES)
    assert {kind for _, kind in WRITTEN} == set(FORMATS)


@pytest.mark.parametrize(("mode", "kind"), WRITTEN)
def test_every_mode_of_every_format_has_the_colours_that_were_written(mode: str, kind: str) -> None:
    image, expected = PICTURES[mode]
    assert_close(decode(encoded(image, kind), PLAIN), expected, TOLERANCES.get(kind, 2))


# --- profiles


@pytest.mark.parametrize("kind", TAGGED)
@pytest.mark.parametrize("name", ["Adobe RGB", "Display P3", "Generic RGB"])
def test_rgb_is_converted_from_its_profile(kind: str, name: str) -> None:
    data = encoded(Image.fromarray(COLOUR), kind, icc_profile=profiles.rgb_profile(name))
    expected = profiles.in_srgb(COLOUR, name)
    assert np.abs(expected - COLOUR).max() > 8
    assert_close(decode(data, PLAIN), expected, TOLERANCES.get(kind, 0) + 2)


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_colours_beside_transparency_and_in_palettes_are_converted_too(mode: str) -> None:
    image = PICTURES[mode][0]
    data = encoded(image, "PNG", icc_profile=profiles.rgb_profile("Adobe RGB"))
    expected = profiles.in_srgb(COLOUR, "Adobe RGB")
    assert_close(decode(data, PLAIN), over_white(expected) if mode == "RGBA" else expected, 2)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_is_converted_from_its_profile(mode: str) -> None:
    data = encoded(PICTURES[mode][0], "PNG", icc_profile=profiles.grey_profile(1.4))
    expected = grey_of(255 * profiles.srgb_values((GREY / 255.0) ** 1.4))
    assert np.abs(expected - grey_of(GREY)).max() > 20
    assert_close(decode(data, PLAIN), over_white(expected) if mode == "LA" else expected, 2)


def inked(c: int, m: int, y: int, k: int) -> tuple[int, int, int]:
    """A press of dull inks: L*a*b* of full inks, in the gamut of sRGB."""
    lightness = 95 - 25 * c - 30 * m - 5 * y if c + m + y else 100
    return lightness * (1 - k), 15 * (m - c) * (1 - k), 10 * (y - c) * (1 - k)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize(
    "inks", [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 1, 1, 0), (0, 0, 0, 1)]
)
def test_cmyk_is_converted_from_its_profile(kind: str, inks: tuple[int, int, int, int]) -> None:
    image = Image.new("CMYK", (SIDE, SIDE), tuple(255 * ink for ink in inks))
    data = encoded(image, kind, icc_profile=profiles.cmyk_profile(inked))
    expected = np.broadcast_to(profiles.lab_in_srgb(inked(*inks)), (SIDE, SIDE, 3))
    assert_close(decode(data, PLAIN), expected, 4)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_profile_and_orientation_go_together(orientation: int) -> None:
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(COLOUR, turns)))
    data = encoded(stored, "PNG", exif=exif, icc_profile=profiles.rgb_profile("Display P3"))
    assert_close(decode(data, PLAIN), profiles.in_srgb(COLOUR, "Display P3"), 2)


LEFT_ALONE = {
    "sRGB": profiles.rgb_profile("sRGB"),
    "Pillow's sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "cut": profiles.rgb_profile("Adobe RGB")[:900],
    "no profile at all": b"not a profile",
    "of grey": profiles.grey_profile(1.4),
    "of ink": profiles.cmyk_profile(inked),
}


@pytest.mark.parametrize("kind", TAGGED)
@pytest.mark.parametrize("what", LEFT_ALONE)
def test_srgb_and_profiles_that_do_not_fit_change_no_bit(kind: str, what: str) -> None:
    image = Image.fromarray(COLOUR)
    plain, tagged = encoded(image, kind), encoded(image, kind, icc_profile=LEFT_ALONE[what])
    np.testing.assert_array_equal(decode(tagged, PLAIN), decode(plain, PLAIN))


def test_conversions_do_not_depend_on_threads() -> None:
    tags = [profiles.rgb_profile(name) for name in profiles.PRIMARIES]
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
    files = [
        encoded(Image.fromarray(pixels), "PNG", icc_profile=tags[n % len(tags)])
        for n, pixels in enumerate(noise)
    ]
    listed = [ImageFile(Path(), sha256(data).hexdigest(), data) for data in files]
    for data, pixels in zip(files, decode_many(listed, PLAIN, workers=8), strict=True):
        np.testing.assert_array_equal(pixels, decode(data, PLAIN))


# --- depths


def tiff_of_12_bits(values: NDArray[np.uint16]) -> bytes:
    """An uncompressed TIFF with two values in three bytes."""
    pairs = values.reshape(-1, 2).astype(np.uint32)
    joined = pairs[:, 0] << 12 | pairs[:, 1]
    data = np.stack([joined >> 16, joined >> 8 & 255, joined & 255], axis=-1).astype(np.uint8)
    tags = [
        *((256, values.shape[1]), (257, values.shape[0]), (258, 12), (259, 1), (262, 1)),
        *((273, 8), (277, 1), (278, values.shape[0]), (279, data.size)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + data.size)
    return head + data.tobytes() + struct.pack("<H", len(tags)) + entries + bytes(4)


def png_with_sbit(values: NDArray[np.uint16], bits: int) -> bytes:
    data = encoded(Image.fromarray(values), "PNG")
    chunk = b"sBIT" + bytes([bits])
    chunk = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data[:33] + chunk + data[33:]


def jpeg2000_of(values: NDArray[np.uint16], bits: int) -> bytes:
    """Its 16 bits are declared to be fewer, around a middle that is moved accordingly."""
    moved = (values.astype(np.int64) + 2**15 - 2 ** (bits - 1)).astype(np.uint16)
    data = bytearray(encoded(Image.fromarray(moved), "JPEG2000"))
    data[data.index(b"\xff\x4f\xff\x51") + 42] = bits - 1
    data[data.index(b"ihdr") + 14] = bits - 1
    return bytes(data)


def pgm_of(values: NDArray[np.uint16], white: int) -> bytes:
    height, width = values.shape
    return b"P5 %d %d %d\n" % (width, height, white) + values.astype(">u2").tobytes()


def tiff_saying(values: NDArray[np.uint16], **tags: int) -> bytes:
    return encoded(
        Image.fromarray(values), "TIFF", tiffinfo={int(k[1:]): v for k, v in tags.items()}
    )


TWELVE = np.tile(np.linspace(0, 4095, SIDE).round().astype(np.uint16), (SIDE, 1))
SAYING = {
    "TIFF of 12 bits": tiff_of_12_bits(TWELVE),
    "TIFF, SMaxSampleValue": tiff_saying(TWELVE, t341=4095),
    "TIFF, MaxSampleValue": tiff_saying(TWELVE, t281=4000 + 95),
    "PNG, sBIT, low bits": png_with_sbit(TWELVE, 12),
    "PNG, sBIT, scaled": png_with_sbit(TWELVE * 16, 12),
    "JPEG 2000 of 12 bits": jpeg2000_of(TWELVE, 12),
    "PGM to 4095": pgm_of(TWELVE, 4095),
}


@pytest.mark.parametrize("what", SAYING)
@pytest.mark.parametrize("white_level", [None, 1023])
def test_significant_bits_that_a_file_tells_are_believed(
    what: str, white_level: int | None
) -> None:
    """Whatever level was chosen for files that tell nothing."""
    square = Square(SIDE, white_level=white_level)
    assert_close(decode(SAYING[what], square), grey_of(TWELVE / 4095 * 255), 1)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_jpeg2000_of_any_depth_goes_from_black_to_white(bits: int) -> None:
    values = np.tile(np.linspace(0, 2**bits - 1, SIDE).round().astype(np.uint16), (SIDE, 1))
    assert_close(decode(jpeg2000_of(values, bits), PLAIN), grey_of(values / (2**bits - 1) * 255), 1)


def test_a_declaration_that_the_values_contradict_is_not_believed() -> None:
    bright = TWELVE * 16
    assert_close(decode(tiff_saying(bright, t341=4095), PLAIN), grey_of(bright / 257.0), 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_the_white_level_is_for_files_that_say_nothing(kind: str) -> None:
    data = encoded(Image.fromarray(TWELVE), kind)
    assert decode(data, PLAIN).max() == 16
    square = Square(SIDE, white_level=4095)
    assert_close(decode(data, square), grey_of(TWELVE / 4095 * 255), 1)
    eight = encoded(Image.fromarray(GREY), kind)
    np.testing.assert_array_equal(decode(eight, square), decode(eight, PLAIN))


def test_values_above_the_white_level_are_white() -> None:
    data = encoded(Image.fromarray(TWELVE), "PNG")
    assert (decode(data, Square(SIDE, white_level=100))[:, 1:] == 255).all()


def test_a_negative_of_16_bits_is_turned_round_as_one_of_8_bits_is() -> None:
    data = bytearray(encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"))
    at = data.index(struct.pack("<HHI", 262, 3, 1))
    data[at + 8] = 0
    assert_close(decode(bytes(data), PLAIN), grey_of(255 - GREY), 1)


# --- frames


def one_colour(colour: str) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), colour)


def colour_of(data: bytes) -> str:
    pixels = decode(data, PLAIN)
    assert np.ptp(pixels, axis=(0, 1)).max() <= 8
    return ["red", "green", "blue"][int(pixels.mean(axis=(0, 1)).argmax())]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_several_frames_the_first_is_taken(kind: str) -> None:
    frames = [one_colour("lime"), one_colour("blue")]
    data = encoded(one_colour("red"), kind, save_all=True, append_images=frames)
    assert colour_of(data) == "red"


def test_a_default_image_that_the_animation_does_not_show_is_passed_over() -> None:
    frames = [one_colour("lime"), one_colour("blue")]
    data = encoded(
        one_colour("red"), "PNG", save_all=True, append_images=frames, default_image=True
    )
    assert colour_of(data) == "green"


def pages(*written: tuple[Image.Image, dict[int, int]]) -> bytes:
    file = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file, True) as pages:
        for image, tags in written:
            image.save(pages, "TIFF", tiffinfo=tags)
            pages.newFrame()
    return file.getvalue()


@pytest.mark.parametrize("tags", [{254: 1}, {254: 4}, {255: 2}])
def test_small_copies_and_masks_in_a_tiff_are_passed_over(tags: dict[int, int]) -> None:
    small = Image.new("RGB", (4, 4), "red")
    data = pages((small, tags), (one_colour("lime"), {}), (one_colour("blue"), {}))
    assert colour_of(data) == "green"
    with opened(data) as image:
        assert image.size == (SIDE, SIDE)


def test_a_tiff_of_small_copies_alone_is_what_it_is() -> None:
    assert colour_of(pages((one_colour("red"), {254: 1}), (one_colour("blue"), {254: 1}))) == "red"


# --- squares


def banded(width: int, height: int) -> bytes:
    """Red, green and blue thirds along the longer side."""
    bands = np.zeros((height, width, 3), np.uint8)
    along = bands if width > height else bands.swapaxes(0, 1)
    for colour, band in enumerate(np.array_split(along, 3, axis=1 if width > height else 0)):
        band[..., colour] = 255
    if width <= height:
        for colour, band in enumerate(np.array_split(bands, 3, axis=0)):
            band[:] = 0
            band[..., colour] = 255
    return encoded(Image.fromarray(bands), "PNG")


@pytest.mark.parametrize("shape", [(48, 16), (16, 48)])
def test_crop_takes_the_square_in_the_middle(shape: tuple[int, int]) -> None:
    pixels = decode(banded(*shape), Square(SIDE, "crop"))
    assert (pixels == (0, 255, 0)).all()


@pytest.mark.parametrize("shape", [(48, 16), (16, 48)])
def test_pad_keeps_the_proportions_between_grey_bars(shape: tuple[int, int]) -> None:
    pixels = decode(banded(*shape), Square(48, "pad"))
    pixels = pixels if shape[0] > shape[1] else pixels.swapaxes(0, 1)
    bars = np.concatenate([pixels[:16], pixels[32:]])
    assert (bars == bars[0, 0]).all()
    assert 90 < bars.mean() < 140
    for column, colour in zip((4, 24, 44), np.eye(3), strict=True):
        assert (pixels[16:32, column] == 255 * colour).all()


def test_squash_shows_all_thirds_without_bars() -> None:
    pixels = decode(banded(48, 16), Square(SIDE, "squash"))
    assert (pixels[:, [2, 8, 13]] == 255 * np.eye(3)).all()


@pytest.mark.parametrize("fit", FITS)
def test_a_square_is_the_same_by_every_fit(fit: str) -> None:
    data = encoded(Image.fromarray(COLOUR), "PNG")
    np.testing.assert_array_equal(decode(data, Square(8, fit)), decode(data, Square(8)))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 2), (1, 1)])
def test_the_thinnest_images_fill_the_square(fit: str, shape: tuple[int, int]) -> None:
    image = Image.new("RGB", shape, (250, 0, 0))
    pixels = decode(encoded(image, "PNG"), Square(SIDE, fit))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert tuple(pixels[SIDE // 2, SIDE // 2]) == (250, 0, 0) or fit == "pad"
    assert (pixels == (250, 0, 0)).all(axis=-1).any()


@pytest.mark.parametrize("shape", [(37, 16), (16, 37), (640, 481), (100, 99), (3, 40)])
def test_pad_and_crop_are_those_of_imageops(shape: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8))
    bilinear = Image.Resampling.BILINEAR
    padded = ImageOps.pad(image, (SIDE, SIDE), bilinear, PAD)
    cropped = ImageOps.fit(image, (SIDE, SIDE), bilinear)
    for fit, expected in (("pad", padded), ("crop", cropped)):
        data = encoded(image, "PNG")
        np.testing.assert_array_equal(decode(data, Square(SIDE, fit)), np.asarray(expected))


@pytest.mark.parametrize("fit", FITS)
def test_bars_are_no_levels_of_the_image(fit: str) -> None:
    for level, image in ((0, Image.new("L", (40, 10), 77)), (14, Image.linear_gradient("L"))):
        dark = image.resize((40, 10)).point(lambda value: value * 14 // 255) if level else image
        with opened(encoded(dark, "PNG")) as found:
            assert draw(found, Square(SIDE, fit)).levels <= level


def test_levels_are_those_of_the_picture() -> None:
    listed = [
        ImageFile(Path(), sha256(data).hexdigest(), data)
        for data in (encoded(Image.fromarray(GREY), "PNG"), encoded(one_colour("red"), "PNG"))
    ]
    ramp, red = draw_many(listed, PLAIN)
    assert isinstance(ramp, Drawn) and isinstance(red, Drawn)
    assert (ramp.levels, red.levels) == (255, 0)
