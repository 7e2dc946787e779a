"""A record shop: five new covers a day for thirty days, found again by a photograph of each.

    python scripts/bench/record_shop.py /tmp/shop [--covers 500] [--a-day 5] [--days 30]
        [--descriptor whitened]

Every cover is a picture of its own: a ground, shapes, lines and marks like those of text, in few
colours; many share theirs with others. A customer's photograph shows it at a slant on some table,
in some light, blurred, and cut. Before the first day a run is made once, from photographs of 60
other covers, and the covers that are in stock are added to its index. Every day `tlcli index add`
takes in the new covers, one image each, and `tlcli index search` looks for the nearest one of one
photograph of every cover. Prints Recall@1 of all covers and of the new ones with 95 % intervals
(Wilson), and the seconds of `index add`. Nothing is trained again.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from scipy.stats import binomtest

SIDE = 320
"""Pixels of a cover's side."""
PALETTES = 40
"""Fewer than covers: a colour alone does not name one."""
OTHERS, PHOTOGRAPHS = 60, 6
"""Covers that the run is made from, which are not in the shop, and photographs of each."""

Rng = np.random.Generator
Point = tuple[float, float]


def cover(number: int) -> Image.Image:
    """The cover of a number, always the same."""
    rng = np.random.default_rng([1, number])
    colours = _palette(int(rng.integers(PALETTES)))
    picture = Image.new("RGB", (SIDE, SIDE), colours[0])
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 7)):
        _shape(draw, rng, colours)
    for _ in range(rng.integers(1, 4)):
        _text(draw, rng, colours)
    return picture


def _palette(number: int) -> list[tuple[int, int, int]]:
    values = np.random.default_rng([2, number]).integers(0, 256, (4, 3))
    return [(int(red), int(green), int(blue)) for red, green, blue in values]


def _shape(draw: ImageDraw.ImageDraw, rng: Rng, colours: list[tuple[int, int, int]]) -> None:
    """A disc, a ring, a rectangle, a triangle, or a band of lines."""
    colour = colours[int(rng.integers(1, 4))]
    x, y = (float(value) for value in rng.uniform(0, SIDE, 2))
    size = float(rng.uniform(0.1, 0.45)) * SIDE
    box = (x - size, y - size, x + size, y + size)
    kind = int(rng.integers(5))
    if kind == 0:
        draw.ellipse(box, fill=colour)
    elif kind == 1:
        draw.ellipse(box, outline=colour, width=int(rng.integers(4, 30)))
    elif kind == 2:
        draw.rectangle((x - size, y - size / 2, x + size, y + size / 2), fill=colour)
    elif kind == 3:
        draw.polygon([(float(a), float(b)) for a, b in rng.uniform(0, SIDE, (3, 2))], fill=colour)
    else:
        _lines(draw, rng, colour)


def _lines(draw: ImageDraw.ImageDraw, rng: Rng, colour: tuple[int, int, int]) -> None:
    first, second = rng.uniform(0, SIDE, (2, 2))
    step = rng.uniform(8, 24, 2)
    for number in range(int(rng.integers(4, 14))):
        (a, b), (c, d) = first + number * step, second + number * step
        draw.line((float(a), float(b), float(c), float(d)), fill=colour, width=4)


def _text(draw: ImageDraw.ImageDraw, rng: Rng, colours: list[tuple[int, int, int]]) -> None:
    """Words of upright marks on a line."""
    colour, height = colours[int(rng.integers(1, 4))], float(rng.uniform(10, 36))
    x, y = float(rng.uniform(5, SIDE / 2)), float(rng.uniform(5, SIDE - 45))
    for _ in range(int(rng.integers(4, 16))):
        width = float(rng.uniform(0.3, 0.7)) * height
        top = y + float(rng.choice([0, 0.35])) * height
        draw.rectangle((x, top, x + width, y + height), outline=colour, width=3)
        x += width + (4 if rng.uniform() < 0.8 else height)


def photograph(picture: Image.Image, seed: int) -> Image.Image:
    """A cover as a customer's telephone sees it: slant, table, light, blur, cut."""
    rng = np.random.default_rng([3, seed])
    seen = _lit(_slanted(picture, rng), rng)
    seen = seen.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 2.0))))
    width, height = seen.size
    left, top, right, bottom = rng.uniform(0, 0.12, 4)
    return seen.crop(
        (
            int(left * width),
            int(top * height),
            int((1 - right) * width),
            int((1 - bottom) * height),
        )
    )


def _slanted(picture: Image.Image, rng: Rng) -> Image.Image:
    """On a table of some colour, turned by up to 12 degrees, its corners moved by up to a tenth."""
    side = int(1.3 * SIDE)
    table = Image.new("RGB", (side, side), _palette(int(rng.integers(1000, 2000)))[0])
    margin = (side - SIDE) / 2
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0]]) * SIDE + margin
    turn = np.deg2rad(rng.uniform(-12, 12))
    turned = (corners - side / 2) @ np.array(
        [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    )
    seen = turned + side / 2 + rng.uniform(-0.08, 0.08, (4, 2)) * SIDE
    flat = np.array([[0, 0], [0, SIDE], [SIDE, SIDE], [SIDE, 0]], float)
    how = _perspective(seen, flat)
    drawn = picture.transform(
        (side, side), Image.Transform.PERSPECTIVE, how, Image.Resampling.BICUBIC
    )
    mask = Image.new("L", picture.size, 255)
    table.paste(drawn, mask=mask.transform((side, side), Image.Transform.PERSPECTIVE, how))
    return table


def _perspective(seen: np.ndarray, flat: np.ndarray) -> list[float]:
    """The eight numbers by which Pillow maps points of the photograph to points of the cover."""
    rows, values = [], []
    for (x, y), (u, v) in zip(seen, flat, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows), np.array(values))]


def _lit(picture: Image.Image, rng: Rng) -> Image.Image:
    """Brighter to one side, of a warm or cold colour, of more or less contrast."""
    pixels = np.asarray(picture, np.float64)
    left, right = (float(value) for value in rng.uniform(0.6, 1.3, 2))
    ramp = np.linspace(left, right, pixels.shape[1])[None, :, None]
    tint = rng.uniform(0.85, 1.15, 3)
    lit = Image.fromarray(np.clip(pixels * ramp * tint, 0, 255).astype(np.uint8))
    return ImageEnhance.Contrast(lit).enhance(float(rng.uniform(0.7, 1.2)))


@dataclass
class Shop:
    """A folder with covers, one photograph of each, and a run with their index."""

    folder: Path
    call: Callable[..., str]
    """A tlcli command → its standard output."""
    photographs: dict[str, str] = field(default_factory=dict)
    """Path of a photograph → the title of its cover."""

    @property
    def run(self) -> Path:
        """The run."""
        return self.folder / "run"

    def open(self, others: int = OTHERS, photographs: int = PHOTOGRAPHS) -> None:
        """Make the run, from photographs of covers that the shop does not have."""
        for number in range(others):
            for seed in range(photographs):
                place = self.folder / "others" / f"other {number:03d}"
                place.mkdir(parents=True, exist_ok=True)
                seen = photograph(cover(10**6 + number), 10**6 + number * photographs + seed)
                seen.save(place / f"{seed}.jpg", quality=80)
        self.call("pretrain", self.folder / "others", "--out", self.run, "--no-keras-model")

    def take_in(self, day: int, numbers: range, *options: str) -> float:
        """Add covers to the index; the seconds of it."""
        arrived = self.folder / "covers" / f"day {day:02d}"
        for number in numbers:
            title = f"cover {number:04d}"
            (arrived / title).mkdir(parents=True)
            cover(number).save(arrived / title / "cover.png")
            seen = self.folder / "photographs" / f"{number:04d}.jpg"
            seen.parent.mkdir(exist_ok=True)
            photograph(cover(number), number).save(seen, quality=80)
            self.photographs[str(seen)] = title
        start = time.perf_counter()
        self.call("index", "add", self.run, arrived, *options)
        return time.perf_counter() - start

    def found(self) -> dict[str, bool]:
        """Title → whether the nearest cover of its photograph is the right one."""
        answers = self.call(
            "index", "search", self.run, self.folder / "photographs", "-k", 1, "--json"
        )
        found = map(json.loads, answers.splitlines())
        nearest = {entry["path"]: entry["neighbours"][0]["label"] for entry in found}
        return {title: nearest[path] == title for path, title in self.photographs.items()}


def share(right: list[bool]) -> str:
    """How many are right, with the interval."""
    low, high = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
    return f"{np.mean(right):.1%} ({low:.1%} to {high:.1%})"


def called(*arguments: object) -> str:
    """A tlcli command in a process of its own."""
    command = [sys.executable, "-m", "tlcli", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603


def main() -> None:
    """Live through the days."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--covers", type=int, default=500)
    parser.add_argument("--a-day", type=int, default=5)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--descriptor", default="whitened")
    options = parser.parse_args()
    options.out.mkdir()
    shop = Shop(options.out, called)
    shop.open()
    stock = options.covers - options.a_day * options.days
    seconds = shop.take_in(0, range(stock), "--descriptor", options.descriptor)
    print(f"{stock} covers added in {seconds:.1f} s, Recall@1 {share([*shop.found().values()])}")
    first = stock
    took: list[float] = []
    new: list[bool] = []
    for day in range(1, options.days + 1):
        took.append(shop.take_in(day, range(first, first + options.a_day)))
        found = [*shop.found().values()]
        first, new = first + options.a_day, new + found[-options.a_day :]
        print(f"day {day:2} {first} covers, Recall@1 {share(found)}, {took[-1]:.1f} s", flush=True)
    print(f"covers on their first day: Recall@1 {share(new)}")
    print(f"index add: {np.median(took):.1f} s a day (median), {max(took):.1f} s at most")
    rounds = json.loads(called("rounds", "list", shop.run, "--json"))["rounds"]
    print(f"the run has {len(rounds)} round")


if __name__ == "__main__":
    main()
