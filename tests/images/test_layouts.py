"""Datasets that come divided are not taken for classes called train and test."""

import itertools
import os
from pathlib import Path

import pytest

from tlcli.errors import DataError, DividedData
from tlcli.images import check, scan


def put(root: Path, *levels: str, name: str = "1.png") -> Path:
    """Files in all combinations of folders, each level given as words; contents differ."""
    for parts in itertools.product(*(level.split("|") for level in levels)):
        folder = root.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.fsencode(folder))
    return root


def parts_of(root: Path) -> tuple[str | None, ...]:
    """What a refusal names to learn from, to validate on and to test on."""
    with pytest.raises(DividedData) as caught:
        scan(root)
    error = caught.value
    assert error.exit_code == DataError.exit_code == 3
    assert "\n" not in str(error)
    found = (error.to_learn, error.to_validate, error.to_test)
    return tuple(None if path is None else str(Path(path).relative_to(root)) for path in found)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("train|valid|test", ("train", "valid", "test")),
        ("TRAIN|Val", ("TRAIN", "Val", "Val")),
        ("training|testing", ("training", "testing", "testing")),
        ("train|validation|holdout", ("train", "validation", "holdout")),
        ("Training Data|Hold-Out", ("Training Data", "Hold-Out", "Hold-Out")),
        ("trainSet|evalSet", ("trainSet", "evalSet", "evalSet")),
        ("train2017|val2017|test2017", ("train2017", "val2017", "test2017")),
        ("seg_train|seg_test|seg_pred", ("seg_train", "seg_test", "seg_test")),
        ("train|dev", ("train", "dev", "dev")),
        ("train|test|unlabelled", ("train", "test", "test")),
        ("held-out|tested", (None, "held-out", "held-out")),
        ("train", ("train", None, None)),
    ],
)
def test_parts_with_class_folders(
    tmp_path: Path, names: str, expected: tuple[str | None, ...]
) -> None:
    assert parts_of(put(tmp_path, names, "a|b|c")) == expected


def test_parts_at_any_depth(tmp_path: Path) -> None:
    put(tmp_path / "one", "images", "train|val", "a|b")
    put(tmp_path / "one", "labels", "train|val", "a|b", name="1.txt")
    assert parts_of(tmp_path / "one") == ("images/train", "images/val", "images/val")
    put(tmp_path / "two", "set", "images", "train|test", "a|b")
    assert parts_of(tmp_path / "two")[0] == "set/images/train"
    put(tmp_path / "both", "fruit|trees", "train|test", "a|b")
    assert parts_of(tmp_path / "both") == ("fruit/train", "fruit/test", "fruit/test")


def test_parts_in_folders_of_their_own_name(tmp_path: Path) -> None:
    for name in ("training_set", "test_set"):
        put(tmp_path, name, name, "cats|dogs")
    assert parts_of(tmp_path)[::2] == ("training_set/training_set", "test_set/test_set")
    assert parts_of(tmp_path / "training_set")[0] == "training_set"
    put(tmp_path / "seg_train", "seg_train", "a|b")
    assert parts_of(tmp_path / "seg_train")[0] == "seg_train"


def test_parts_without_class_folders(tmp_path: Path) -> None:
    put(tmp_path / "one", "train|test")
    assert parts_of(tmp_path / "one") == (None, None, None)
    put(tmp_path / "two", "images", "train|val")
    assert parts_of(tmp_path / "two") == (None, None, None)
    put(tmp_path / "three", "valid")
    with pytest.raises(DividedData, match=r"valid \(images, no class folder\).*Make class"):
        scan(tmp_path / "three")
    put(tmp_path / "four", "train", "a|b")
    put(tmp_path / "four", "test")
    assert parts_of(tmp_path / "four") == ("train", None, None)


@pytest.mark.parametrize(
    "levels",
    [
        ("train|bus|car",),
        ("train|bus|car", "day|night"),
        ("train",),
        ("train1|train2",),
        ("freight train|passenger train",),
        ("freight train|passenger train", "day|night"),
        ("train|test tube",),
        ("train|test|bus",),
        ("cat", "test"),
        ("dev|contest|interval|trainer",),
        ("cat|dog", "one|two"),
    ],
)
def test_classes_that_are_called_like_parts(tmp_path: Path, levels: tuple[str, ...]) -> None:
    listing = scan(put(tmp_path, *levels))
    assert listing.classes == tuple(sorted(levels[0].split("|")))
    assert listing.parts == ()


def test_folders_without_images_do_not_count(tmp_path: Path) -> None:
    put(tmp_path, "train|test", "a|b")
    put(tmp_path, "annotations|models", name="1.txt")
    (tmp_path / "valid").mkdir()
    assert parts_of(tmp_path) == ("train", "test", "test")


def test_a_table_has_the_last_word(tmp_path: Path) -> None:
    put(tmp_path, "train|test", "a|b")
    rows = ["train/a/1.png,train", "test/a/1.png,test"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    assert scan(tmp_path / "list.csv").classes == ("test", "train")


def test_the_message_says_what_lies_there(tmp_path: Path) -> None:
    put(tmp_path, "train", "a|b")
    put(tmp_path, "valid", "a")
    put(tmp_path, "test")
    with pytest.raises(DividedData) as caught:
        check(tmp_path)
    message = str(caught.value).replace(f"{tmp_path}/", "")
    assert "train (2 class folders), valid (1 class folder), test (images, no class f" in message
    assert "Give train to learn from and valid to test on." in message
    assert "table with the columns path,label" in message


def test_parts_inside_class_folders_are_told(tmp_path: Path) -> None:
    put(tmp_path, "cat|dog", "train|test")
    listing = scan(tmp_path)
    assert (listing.classes, listing.parts) == (("cat", "dog"), ("test", "train"))
    report = check(tmp_path)
    assert any("divided into 'test', 'train'" in problem for problem in report.problems)
    assert report.to_json()["parts"] == ["test", "train"]


def test_many_parts_are_not_all_named(tmp_path: Path) -> None:
    put(tmp_path, "a|b|c|d", "train|test", "x|y")
    with pytest.raises(DividedData, match="and more") as caught:
        scan(tmp_path)
    assert str(tmp_path / "d") not in str(caught.value)


def test_links_that_lead_back_up_end(tmp_path: Path) -> None:
    put(tmp_path, "cat", "deep")
    (tmp_path / "cat" / "deep" / "train").symlink_to(tmp_path)
    assert scan(tmp_path).classes == ("cat",)
