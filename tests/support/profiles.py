"""Colour profiles built from their definitions, and what their colours are in sRGB: no library."""

import struct
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike

from tests.support.arrays import Doubles

Lab = tuple[float, float, float]
Curve = Callable[[Doubles], Doubles]

D50 = np.array([0.9642, 1.0, 0.8249])

PRIMARIES = {  # columns: XYZ of red, green and blue, adapted to D50
    "sRGB": [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]],
    "Adobe RGB": [[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]],
    "Display P3": [[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]],
    "Generic RGB": [[0.4543, 0.3533, 0.1566], [0.2419, 0.6736, 0.0845], [0.0149, 0.0906, 0.7195]],
}


def srgb_linear(values: Doubles) -> Doubles:
    """Light of 0..1 from sRGB values of 0..1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_values(light: Doubles) -> Doubles:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


CURVES: dict[str, Curve] = {
    "sRGB": srgb_linear,
    "Adobe RGB": lambda values: values**2.2,
    "Display P3": srgb_linear,
    "Generic RGB": lambda values: values**1.8,
}


def rgb_profile(name: str) -> bytes:
    """An ICC profile of version 2 with a matrix and curves of 1024 points."""
    matrix = np.array(PRIMARIES[name])
    tags = {f"{c}XYZ".encode(): _xyz(matrix[:, n]) for n, c in enumerate("rgb")}
    tags |= {f"{c}TRC".encode(): _curve(CURVES[name]) for c in "rgb"}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(lambda values: values**gamma)})


def cmyk_profile(lab_of: Callable[[int, int, int, int], Lab]) -> bytes:
    """A table with the two ends of each ink: `lab_of` says what (c, m, y, k) of 0 or 1 are."""
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    identity = np.tile(np.arange(256, dtype=np.uint8), 4).tobytes()
    table = b"".join(_lab8(lab_of(*corner)) for corner in corners)
    unit = struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    head = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit
    out = np.tile(np.arange(256, dtype=np.uint8), 3).tobytes()
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": head + identity + table + out})


def _lab8(lab: Lab) -> bytes:
    lightness, a, b = lab
    return bytes([round(lightness * 2.55), round(a + 128), round(b + 128)])


def _xyz(values: Iterable[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def _curve(function: Curve) -> bytes:
    points = np.round(function(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", 1024) + points.tobytes()


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"made for a test\0"
    tags = tags | {
        b"wtpt": _xyz(D50),
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + text,
    }
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">2I", place + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", place + len(body), bytes(4), 0x02400000, kind, space, connection
    )
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(D50)[8:]
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


def in_srgb(pixels: ArrayLike, name: str) -> Doubles:
    """Pixels (…, 3) of 0..255 in a space of `PRIMARIES` as sRGB of 0..255."""
    light = CURVES[name](np.asarray(pixels, float) / 255)
    xyz = light @ np.array(PRIMARIES[name]).T
    return 255 * srgb_values(xyz @ np.linalg.inv(np.array(PRIMARIES["sRGB"])).T)


def lab_in_srgb(lab: ArrayLike) -> Doubles:
    """CIE L*a*b* under D50 (…, 3) as sRGB of 0..255."""
    lightness, a, b = np.moveaxis(np.asarray(lab, float), -1, 0)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    return 255 * srgb_values(xyz @ np.linalg.inv(np.array(PRIMARIES["sRGB"])).T)
