"""The report on a data folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlcli.errors import DataError
from tlcli.images import Extent, check


def save(
    path: Path, kind: str | None = None, size: tuple[int, int] = (40, 60), seed: int = 0
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    corners = np.random.default_rng([seed, *path.name.encode()]).permutation(240)[:12] // 60 * 80
    shades = Image.fromarray(corners.reshape(2, 2, 3).astype(np.uint8))
    shades.resize(size, Image.Resampling.BILINEAR).save(path, kind)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for label in ("cat", "dog"):
        for i in range(5):
            save(root / label / f"{label}{i}.png")
    return root


def test_nothing_wrong(good: Path) -> None:
    report = check(good)
    assert report.problems == []
    assert report.images == 10
    assert report.classes == {"cat": 5, "dog": 5}
    assert report.formats == {"PNG": 10}
    assert report.modes == {"RGB": 10}
    assert report.width == Extent(40, 40, 40)
    assert report.height == Extent(60, 60, 60)
    assert report.classes_below(5) == []


def test_everything_wrong(good: Path) -> None:
    save(good / "cat/small.png", size=(8, 100))
    save(good / "cat/really.png", "JPEG")
    save(good / "cat/honest.jpg", "JPEG")
    save(good / "ant/one.png")
    save(good / "bee/one.gif")
    save(good / "bee/two.gif")
    (good / "fly").mkdir()
    (good / "cat/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (good / "gnat").mkdir()
    (good / "gnat/broken.jpg").write_bytes(b"broken too")
    (good / "cat/notes.txt").write_bytes(b"x")
    (good / "dog/copy.png").write_bytes((good / "dog/dog1.png").read_bytes())
    (good / "dog/conflict.png").write_bytes((good / "cat/cat1.png").read_bytes())
    report = check(good)
    assert report.classes == {"ant": 1, "bee": 2, "cat": 7, "dog": 5, "fly": 0, "gnat": 0}
    assert (report.smallest_class, report.largest_class) == ("fly", "cat")
    assert report.classes_below(2) == ["ant", "fly", "gnat"]
    assert report.classes_below(5) == ["ant", "bee", "fly", "gnat"]
    assert report.empty_classes == ("fly",)
    assert (report.conflicts, report.duplicates, report.ignored) == (2, 1, 1)
    assert len(report.skipped) == 4
    assert report.small_images == report.wrong_suffixes == 1
    assert report.formats == {"PNG": 11, "GIF": 2, "JPEG": 2}
    assert report.height == Extent(60, 60, 100)
    assert report.problems == [
        "Without a usable image: 'fly', 'gnat'.",
        "With a single image, too few to test on: 'ant'.",
        "With fewer than 5 images: 'bee'.",
        "In two classes at once, all copies left out: 2 files.",
        "Cannot be used: 2 files.",
        "Further copies of an image, counted once: 1 file.",
        "With a side under 32 pixels: 1 file.",
        "With one side at least twice the other (see --fit of `tlcli pretrain`): 1 file.",
        "Of another format than the suffix says, which does no harm here: 1 file.",
        "No images by their suffix, ignored: 1 file.",
    ]


def test_one_class_is_a_problem_not_an_error(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / "cat" / f"{i}.png")
    assert check(tmp_path).problems == ["There is only one class: 'cat'."]


def test_pixels_are_decoded_not_only_headers(good: Path) -> None:
    path = save(good / "cat/cut.bmp")
    path.write_bytes(path.read_bytes()[:-2000])
    assert [skip.path for skip in check(good).skipped] == [str(path)]


def test_no_usable_image_is_a_problem_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.png").write_bytes(b"broken")
    report = check(tmp_path)
    assert report.problems[0] == "No image can be used."
    assert report.width is None
    json.dumps(report.to_json())


def test_classes_out_of_balance(good: Path) -> None:
    for i in range(60):
        save(good / "dog" / f"more{i}.bmp", seed=i + 1)
    assert any("unbalanced" in problem for problem in check(good).problems)


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for i in range(12):
        save(tmp_path / f"class {i:02}" / f"{i}.png")
    assert check(tmp_path).problems[0].endswith("'class 07', and 4 more.")


def test_mpo_is_jpeg_and_other_suffixes_say_nothing(good: Path) -> None:
    frame = Image.new("RGB", (40, 40), "red")
    frame.save(good / "cat/stereo.jpg", "MPO", save_all=True, append_images=[frame])
    rows = good / "list.csv"
    save(good / "picture.dat", "PNG")
    rows.write_text("path,label\npicture.dat,a\ncat/stereo.jpg,b\n")
    report = check(rows)
    assert report.formats == {"MPO": 1, "PNG": 1}
    assert report.wrong_suffixes == 0


def test_json_and_progress(good: Path) -> None:
    calls = []
    report = check(good, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 10) for i in range(1, 11)] * 2
    (good / "cat/broken.png").write_bytes(b"x")
    as_json = check(good).to_json()
    assert json.loads(json.dumps(as_json)) == as_json
    assert as_json["skipped"][0]["path"] == str(good / "cat/broken.png")
    assert as_json["smallest_class"] == report.smallest_class == "cat"
    assert as_json["width"] == {"minimum": 40, "median": 40.0, "maximum": 40}


def test_it_raises_where_scan_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        check(tmp_path)
