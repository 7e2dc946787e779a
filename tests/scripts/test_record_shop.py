"""scripts/bench/record_shop.py: the worked example of docs/retrieval.md, for two days."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CommandLine

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "record_shop.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_shop", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_cover_is_a_picture_of_its_own(script: ModuleType) -> None:
    drawn = [script.cover(number).tobytes() for number in range(60)]
    assert len(set(drawn)) == 60
    assert drawn[:5] == [script.cover(number).tobytes() for number in range(5)]


def far(first: Image.Image, second: Image.Image) -> float:
    """How different two pictures are, when they are small."""
    small = [np.asarray(picture.resize((12, 12)), float) for picture in (first, second)]
    return float(np.abs(small[0] - small[1]).mean())


def test_a_photograph_is_another_picture_of_the_same_cover(script: ModuleType) -> None:
    covers = [script.cover(number) for number in range(12)]
    seen = [script.photograph(cover, number) for number, cover in enumerate(covers)]
    assert len({picture.size for picture in seen}) > 6
    assert seen[3].tobytes() == script.photograph(covers[3], 3).tobytes()
    assert seen[3].tobytes() != script.photograph(covers[3], 4).tobytes()
    own = [far(cover, picture) for cover, picture in zip(covers, seen, strict=True)]
    others = [far(covers[place - 1], picture) for place, picture in enumerate(seen)]
    assert 5 < np.median(own) < np.median(others)


def test_the_corners_of_a_slanted_cover_are_where_they_should_be(script: ModuleType) -> None:
    seen = np.array([[10, 20], [15, 300], [310, 280], [290, 30]], float)
    flat = np.array([[0, 0], [0, 320], [320, 320], [320, 0]], float)
    a, b, c, d, e, f, g, h = script._perspective(seen, flat)
    for (x, y), wanted in zip(seen, flat, strict=True):
        below = g * x + h * y + 1
        assert ((a * x + b * y + c) / below, (d * x + e * y + f) / below) == pytest.approx(wanted)


def test_new_covers_are_found_on_their_day(
    tlcli: CommandLine, script: ModuleType, tmp_path: Path
) -> None:
    shop = script.Shop(tmp_path, tlcli)
    shop.open(others=4, photographs=3)
    shop.take_in(0, range(6))
    first = shop.found()
    assert set(first) == {f"cover {number:04d}" for number in range(6)}
    assert shop.take_in(1, range(6, 8)) > 0
    assert set(shop.found()) == {f"cover {number:04d}" for number in range(8)}
    assert sum(shop.found().values()) >= 3
    assert tlcli.json("index", "stats", shop.run)["images"] == 8
    assert len(tlcli.json("rounds", "list", shop.run)["rounds"]) == 1


def test_a_share_has_an_interval(script: ModuleType) -> None:
    assert script.share([True] * 8 + [False] * 2) == "80.0% (49.0% to 94.3%)"
