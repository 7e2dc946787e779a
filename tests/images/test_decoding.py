"""One file to RGB: every mode, every format, and nothing but BadImage for broken bytes."""

import hashlib
import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL import ImageFile as PillowFile

from tests.support.arrays import Doubles
from tlcli.errors import BadImage
from tlcli.images import FORMATS, ImageFile, Square, decode, decode_many
from tlcli.images.decoding import draw, hush_pillow, opened, to_rgb
from tlcli.images.reading import map_ahead

ORIENTATION = 0x0112
TO_EXIF = {  # what was done to the pixels that the orientation undoes
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def photo(width: int = 24, height: int = 16, seed: int = 0) -> Image.Image:
    """A smooth picture, so that lossy formats keep it."""
    corners = np.random.default_rng(seed).integers(30, 225, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def flat(mode: str, colour: int | tuple[int, ...], size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def pixel(data: Path | bytes) -> tuple[int, ...]:
    """The colour of a one-coloured image, after making sure that it has one colour."""
    pixels = decode(data, Square(4))
    assert (pixels == pixels[0, 0]).all()
    return tuple(int(value) for value in pixels[0, 0])


def grey16(
    value: int, kind: str = "PNG", dtype: type[np.uint16 | np.int32] = np.uint16, **options: Any
) -> bytes:
    return encoded(Image.fromarray(np.full((4, 4), value, dtype=dtype)), kind, **options)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_decodes_to_its_picture(kind: str) -> None:
    image = photo(32, 32)
    pixels = decode(encoded(image, kind), Square(32))
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert np.abs(pixels.astype(int) - np.asarray(image)).mean() < 6


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(flat("RGB", (1, 2, 3)), "PNG"))
    assert pixel(path) == (1, 2, 3)


def test_path_and_bytes_agree(tmp_path: Path) -> None:
    data = encoded(photo(), "JPEG")
    (tmp_path / "a").write_bytes(data)
    np.testing.assert_array_equal(decode(tmp_path / "a", Square(8)), decode(data, Square(8)))


@pytest.mark.parametrize("kind", ["EPS", "PDF", "PCX", "PSD"])
def test_formats_outside_the_list_are_refused(kind: str) -> None:
    data = b"8BPS" + bytes(40) if kind == "PSD" else encoded(flat("RGB", 0), kind)
    with pytest.raises(BadImage):
        decode(data, Square(8))


# --- modes


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (flat("1", 1), "PNG", (255, 255, 255)),
        (flat("1", 0), "TIFF", (0, 0, 0)),
        (flat("L", 77), "PNG", (77, 77, 77)),
        (flat("RGB", (9, 8, 7)), "BMP", (9, 8, 7)),
        (flat("CMYK", (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (flat("LA", (0, 0)), "PNG", (255, 255, 255)),
        (flat("LA", (100, 255)), "PNG", (100, 100, 100)),
        (flat("RGBA", (200, 0, 0, 0)), "PNG", (255, 255, 255)),
        (flat("RGBA", (0, 0, 0, 128)), "PNG", (127, 127, 127)),
        (flat("RGBA", (0, 0, 0, 128)), "TIFF", (127, 127, 127)),
        (flat("RGBA", (10, 20, 30, 255)), "WEBP", (10, 20, 30)),
        (flat("P", 3), "GIF", (3, 3, 3)),
    ],
)
def test_modes(image: Image.Image, kind: str, expected: tuple[int, int, int]) -> None:
    if image.mode == "P":
        image.putpalette([value for value in range(256) for _ in range(3)])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert pixel(encoded(image, kind, **options)) == expected


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_ycbcr_and_adobe_cmyk(kind: str) -> None:
    mode, colour = ("YCbCr", (128, 128, 128)) if kind == "TIFF" else ("CMYK", (0, 0, 0, 127))
    assert pixel(encoded(flat(mode, colour), kind)) == (128, 128, 128)


def test_lab_tiff() -> None:
    lab = flat("RGB", (200, 100, 50)).convert("LAB")
    assert np.abs(np.subtract(pixel(encoded(lab, "TIFF")), (200, 100, 50))).max() < 6


@pytest.mark.parametrize("mode", ["HSV", "RGBX", "PA", "La", "RGBa", "YCbCr", "LAB"])
def test_modes_that_only_readers_make(mode: str) -> None:
    rgb = to_rgb(Image.new(mode, (3, 3)))
    assert rgb.mode == "RGB"
    assert rgb.size == (3, 3)


@pytest.mark.parametrize("transparency", [5, bytes([255] * 5 + [0])])
def test_palette_transparency_turns_white(transparency: int | bytes) -> None:
    image = flat("P", 5)
    image.putpalette([value for value in range(256) for _ in range(3)])
    assert pixel(encoded(image, "PNG", transparency=transparency)) == (255, 255, 255)
    assert pixel(encoded(image, "PNG")) == (5, 5, 5)


@pytest.mark.parametrize(("mode", "colour"), [("L", 9), ("RGB", (9, 8, 7)), ("1", 0)])
def test_transparent_colour_turns_white(mode: str, colour: int | tuple[int, int, int]) -> None:
    assert pixel(encoded(flat(mode, colour), "PNG", transparency=colour)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (128, 0), (129, 1), (257, 1), (32896, 128), (65535, 255)]
)
def test_16_bit_grey_is_scaled_not_clipped(value: int, expected: int, kind: str) -> None:
    assert pixel(grey16(value, kind)) == (expected,) * 3


def test_16_bit_transparent_value_turns_white() -> None:
    assert pixel(grey16(1000, transparency=1000)) == (255, 255, 255)
    assert pixel(grey16(1000, transparency=1001)) == (4, 4, 4)


@pytest.mark.parametrize(
    ("value", "expected"), [(-5, 0), (25700, 100), (65535, 255), (2_000_000, 255)]
)
def test_32_bit_grey_is_scaled_and_clipped(value: int, expected: int) -> None:
    assert pixel(grey16(value, "TIFF", np.int32)) == (expected,) * 3


def test_big_endian_16_bit_grey() -> None:
    data = b"P5 2 2 65535\n" + bytes([100, 100] * 4)
    assert pixel(data) == (100, 100, 100)
    big = Image.frombytes("I;16B", (2, 2), bytes([100, 100] * 4))
    assert to_rgb(big).getpixel((0, 0)) == (100, 100, 100)


def test_floating_point_is_refused_with_advice() -> None:
    with pytest.raises(BadImage, match="8 or 16 bits"):
        decode(encoded(Image.new("F", (4, 4), 0.5), "TIFF"), Square(4))


# --- geometry


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TO_EXIF)
def test_exif_orientation_is_undone(kind: str, orientation: int) -> None:
    upright = photo(40, 40, seed=3)
    method = TO_EXIF[orientation]
    turned = upright if method is None else upright.transpose(method)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    sharp: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 98, "subsampling": 0},
    }
    pixels = decode(encoded(turned, kind, exif=exif, **sharp.get(kind, {})), Square(40))
    assert np.abs(pixels.astype(int) - np.asarray(upright)).max() < 16


def test_orientation_of_a_reduced_oblong_jpeg() -> None:
    upright = photo(400, 800, seed=4)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)
    expected = np.asarray(upright.resize((16, 16), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(decode(data, Square(16)) - expected).max() < 12


def test_oblong_images_are_squashed_with_antialias() -> None:
    stripes = np.zeros((64, 256, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(encoded(Image.fromarray(stripes), "PNG"), Square(16))
    assert np.abs(pixels.astype(int) - 127).max() < 10


@pytest.mark.parametrize("shape", [(63, 64), (64, 63), (400, 40), (64, 17)])
def test_small_jpegs_are_bit_unchanged_by_the_draft(shape: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (*shape, 3), dtype=np.uint8))
    data = encoded(image, "JPEG")
    with Image.open(io.BytesIO(data)) as plain:
        expected = np.asarray(plain.resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decode(data, Square(16)), expected)


def test_a_big_jpeg_is_decoded_reduced() -> None:
    image = photo(640, 320)
    with opened(encoded(image, "JPEG")) as reduced:
        pixels = draw(reduced, Square(16)).pixels
        assert reduced.size == (80, 40)
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(pixels - expected).max() < 8


def test_first_frame_of_animations() -> None:
    first, second = flat("RGB", (250, 0, 0)), flat("RGB", (0, 0, 250))
    for kind in ("GIF", "PNG", "TIFF", "MPO", "WEBP"):
        data = encoded(first, kind, save_all=True, append_images=[second])
        red, _, blue = decode(data, Square(4)).mean(axis=(0, 1))
        assert red > 230, kind
        assert blue < 20, kind


# --- broken files


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (bytes(5000), "not an image"),
        (b"hello, world" * 9, "not an image"),
        (b"\xff\xd8\xff\xe0nonsense", "damaged or truncated"),
        (b"\x89PNG\r\n\x1a\nnonsense", "damaged or truncated"),
        (b"II*\0" + bytes(20), "TIFF that is damaged"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(20), "HEIC"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    ],
)
def test_what_is_no_image_gets_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode(data, Square(8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_truncated_files_are_bad(kind: str) -> None:
    noise = np.random.default_rng(2).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(BadImage) as caught:
        decode(data[: len(data) // 2], Square(16))
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_every_byte_of_an_avif_may_be_wrong() -> None:
    data = encoded(photo(8, 8), "AVIF")
    for at in range(len(data)):
        with suppress(BadImage):
            decode(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :], Square(4))


def test_a_tiff_without_all_of_its_pixels_is_bad() -> None:
    data = bytearray(encoded(photo(20, 24), "TIFF"))
    entry = re.search(rb"\x01\x01[\x03\x04]\0\x01\0\0\0\x18\0", data)  # ImageLength, 24
    assert entry
    data[entry.end() - 2 : entry.end()] = (2400).to_bytes(2, "little")
    with pytest.raises(BadImage, match="pixels are missing"):
        decode(bytes(data), Square(8))


def test_16_bit_grey_in_more_than_one_band() -> None:
    values = np.arange(700, dtype=np.uint16)[:, None].repeat(3, axis=1) * 90
    expected = np.rint(values / 257)
    with opened(encoded(Image.fromarray(values), "PNG")) as image:
        np.testing.assert_array_equal(np.asarray(to_rgb(image))[..., 0], expected)


def test_files_that_cannot_be_opened_are_bad(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "missing.png", "does not exist"),
        (tmp_path, "a folder"),
        (Path("a\0b"), "cannot be read"),
    ):
        with pytest.raises(BadImage, match=reason) as caught:
            decode(path, Square(8))
        assert str(tmp_path) not in str(caught.value)


def bomb(width: int, height: int) -> bytes:
    header = bytearray(encoded(flat("1", 0), "BMP"))
    header[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return bytes(header)


def test_decompression_bombs_are_bad() -> None:
    with pytest.raises(BadImage, match="too many pixels"):
        decode(bomb(60000, 60000), Square(8))


def test_many_pixels_below_the_limit_are_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert decode(encoded(photo(20, 20), "PNG"), Square(8)).shape == (8, 8, 3)
    assert not seen
    with pytest.raises(BadImage, match="too many pixels"):
        decode(encoded(photo(30, 30), "PNG"), Square(8))


def test_memory_that_runs_out_is_a_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Image.Image) -> NoReturn:
        raise MemoryError

    data = encoded(flat("RGB", 0), "BMP")
    monkeypatch.setattr(Image.Image, "load", full)
    monkeypatch.setattr(PillowFile.ImageFile, "load", full)
    with pytest.raises(BadImage, match="memory"):
        decode(data, Square(8))


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\xff\xff\xff\xff\x00",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x05\0\0\0\x01\0\0\0\x1a" + bytes(8),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_corrupt_exif_harms_no_image(kind: str, exif: bytes) -> None:
    image = photo(16, 16)
    plain, damaged = encoded(image, kind), encoded(image, kind, exif=exif)
    np.testing.assert_array_equal(decode(damaged, Square(16)), decode(plain, Square(16)))


def test_hushing_leaves_other_warnings_alone() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        hush_pillow()
        before = list(warnings.filters)
        hush_pillow()
        assert list(warnings.filters) == before
        warnings.warn("ours", UserWarning, stacklevel=1)
        warnings.warn_explicit("theirs", UserWarning, "Image.py", 1, module="PIL.Image")
    assert [str(warning.message) for warning in seen] == ["ours"]


SEEDS = [
    encoded(photo(), "JPEG"),
    encoded(photo(), "JPEG", progressive=True),
    encoded(photo().convert("CMYK"), "JPEG"),
    encoded(photo(), "PNG"),
    encoded(photo().convert("P"), "PNG", transparency=b"\0\x80"),
    grey16(4000),
    encoded(photo(), "GIF"),
    encoded(photo(), "WEBP"),
    encoded(photo(), "TIFF"),
    encoded(photo(), "TIFF", compression="tiff_lzw"),
    encoded(photo().convert("LAB"), "TIFF"),
    encoded(photo(), "BMP"),
    encoded(photo(), "TGA"),
    encoded(photo(), "JPEG2000"),
    encoded(photo(), "ICO"),
    encoded(photo(), "PPM"),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 8))
        data[at : at + cut] = draw(st.binary(max_size=8))
    return bytes(data[: draw(st.one_of(st.none(), st.integers(0, len(data))))])


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_mutated_files_decode_or_are_bad(data: bytes) -> None:
    try:
        pixels = decode(data, Square(8))
    except BadImage as error:
        assert "\n" not in str(error)
    else:
        assert pixels.shape == (8, 8, 3)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_decode_or_are_bad(data: bytes) -> None:
    with suppress(BadImage):
        decode(data, Square(4))


# --- many


def listed(paths: list[Path]) -> list[ImageFile]:
    return [ImageFile(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = []
    for i in range(20):
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(b"broken" if i == 7 else encoded(flat("RGB", (i, i, i)), "PNG"))
    return paths


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 3), (4, 64)])
def test_decode_many_keeps_the_order_and_hands_over_errors(
    files: list[Path], workers: int, ahead: int
) -> None:
    results = list(decode_many(listed(files), Square(4), workers, ahead=ahead))
    assert isinstance(results.pop(7), BadImage)
    found = [int(pixels[0, 0, 0]) for pixels in results if not isinstance(pixels, BadImage)]
    assert found == [i for i in range(20) if i != 7]


def test_no_more_is_begun_than_asked_for() -> None:
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(20):
            asked.append(number)
            yield number

    results = map_ahead(str, numbers(), workers=2, ahead=3)
    assert [next(results), len(asked)] == ["0", 3]
    assert [next(results), len(asked)] == ["1", 4]
    results.close()
    assert len(asked) == 4


def test_closing_drops_what_has_not_begun(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []
    slow = threading.Event()

    def wait(path: Path, size: Square) -> Doubles:
        begun.append(path)
        if len(begun) > 1:
            slow.wait(0.1)
        return np.zeros(1)

    monkeypatch.setattr("tlcli.images.decoding.decode", wait)
    results = decode_many(listed(files), Square(4), workers=1, ahead=20)
    next(results)
    results.close()
    assert len(begun) <= 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


def test_a_file_that_changed_since_it_was_listed_is_bad(files: list[Path]) -> None:
    before = listed(files)
    files[3].write_bytes(encoded(flat("RGB", (9, 9, 9)), "PNG"))
    results = list(decode_many(before, Square(4)))
    assert "changed" in str(results[3])
    assert not isinstance(results[4], BadImage)


def test_decode_many_of_nothing() -> None:
    assert list(decode_many([], Square(4))) == []


def test_threads_agree_with_one(files: list[Path]) -> None:
    good = [path for path in files if path.stem != "7"] * 5
    expected = [decode(path, Square(9)) for path in good]
    for one, other in zip(expected, decode_many(listed(good), Square(9), workers=8), strict=True):
        np.testing.assert_array_equal(one, other)
