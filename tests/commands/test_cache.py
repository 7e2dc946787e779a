"""`cache stats` and `cache clear`: what is there, what goes, and what must stay."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import CommandLine
from tlcli import cache
from tlcli.features import Kind, Space
from tlcli.features.feature_cache import Index, Store
from tlcli.images import DECODER, Square

SPACE = Space("f" * 64, 1280, "EfficientNetLite0", Kind("openvino 0", DECODER), Square(224))
OTHER = Space("e" * 64, 64, "MobileNetV2", Kind("keras 0", DECODER), Square(96))
DAY = 24 * 60 * 60


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which does not exist yet."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TLCLI_CACHE_LIMIT", "5GB")
    return tmp_path / "cache"


def keep(space: Space, count: int, first: int = 0) -> None:
    hashes = [f"{number:064x}" for number in range(first, first + count)]
    index = Index(hashes, space.width)
    Store(space).store(index, ((key, np.zeros(space.width, np.float32)) for key in hashes))


def fill(root: Path) -> None:
    """Two spaces, one prepared backbone, an index of hashes."""
    keep(SPACE, 30)
    keep(SPACE, 5, first=30)
    keep(OTHER, 3)
    backbone = root / "backbones" / ("a" * 64)
    backbone.mkdir(parents=True)
    (backbone / "backbone.json").write_text(json.dumps({"name": "EfficientNetLite0"}))
    (backbone / "model.keras").write_bytes(bytes(3000))
    (root / "hashes.sqlite").write_bytes(bytes(500))


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_stats_of_a_cache_that_is_not_there(tlcli: CommandLine, root: Path) -> None:
    assert tlcli.json("cache", "stats") == {
        "folder": str(root),
        "limit": 5 * 10**9,
        "bytes": 0,
        "features": [],
        "backbones": [],
        "hash_index_bytes": 0,
    }
    assert tlcli("cache", "stats") == f"{root}: 0 bytes of 5.0 GB, empty\n"
    assert not root.exists()


def test_stats_has_a_row_for_each_space_and_backbone(tlcli: CommandLine, root: Path) -> None:
    fill(root)
    for path in root.rglob("*.h5"):
        os.utime(path, (0, 0))
    os.utime(next(root.rglob("*.h5")), (3600, 3600))
    content = tlcli.json("cache", "stats")
    rows = {row["backbone"]: row for row in content["features"]}
    assert rows["EfficientNetLite0"]["images"] == 35
    assert rows["EfficientNetLite0"]["bytes"] == 35 * (32 + 4 * 1280) + 2 * 1672
    assert (rows["EfficientNetLite0"]["image_size"], rows["MobileNetV2"]["image_size"]) == (224, 96)
    assert (rows["EfficientNetLite0"]["arithmetic"], rows["MobileNetV2"]["arithmetic"]) == (
        *("openvino 0", "keras 0"),
    )
    assert rows["MobileNetV2"]["images"] == 3
    assert sorted(row["last_used"] for row in rows.values()) == [
        *("1970-01-01T00:00:00+00:00", "1970-01-01T01:00:00+00:00")
    ]
    (backbone,) = content["backbones"]
    described = len(json.dumps({"name": "EfficientNetLite0"}))
    assert (backbone["name"], backbone["bytes"]) == ("EfficientNetLite0", 3000 + described)
    assert content["hash_index_bytes"] == 500
    assert content["bytes"] == 500 + sum(
        row["bytes"] for row in (*content["features"], *content["backbones"])
    )
    text = tlcli("cache", "stats")
    assert all(word in text for word in ("MobileNetV2", "openvino", "35", "content hashes"))


@pytest.mark.parametrize("content", ["", "[]", "{}", "\udcff", '{"width": -8}', '{"width": 0}'])
def test_stats_of_what_is_not_described(tlcli: CommandLine, root: Path, content: str) -> None:
    fill(root)
    for path in (*root.rglob("*.json"),):
        path.write_text(content, errors="surrogateescape")
    rows = tlcli.json("cache", "stats")
    assert [row["images"] for row in rows["features"]] == [None, None]
    assert [row["name"] for row in rows["backbones"]] == [None]
    assert "–" in tlcli("cache", "stats")


def test_a_limit_that_is_nonsense_is_named(
    tlcli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLCLI_CACHE_LIMIT", "much")
    assert "TLCLI_CACHE_LIMIT='much'" in tlcli.error(2, "cache", "stats")


def test_clear_deletes_everything_that_the_cache_has_made(tlcli: CommandLine, root: Path) -> None:
    fill(root)
    (next(root.rglob("*.h5")).parent / f".{'b' * 64}.h5.77").touch()
    (root / "hashes.sqlite-wal").touch()
    before = tlcli.json("cache", "stats")["bytes"]
    assert tlcli.json("cache", "clear") == {
        "folder": str(root),
        "freed_bytes": before,
        "segments": 3,
        "backbones": 1,
        "left": 0,
    }
    assert everything(root) == []
    assert "freed 0 bytes" in tlcli("cache", "clear")


def test_clear_says_what_was_freed(tlcli: CommandLine, root: Path) -> None:
    fill(root)
    assert tlcli("cache", "clear") == (f"{root}: freed 189.7 kB (3 feature segments, 1 backbone)\n")


def test_clear_older_than_goes_by_the_last_use(tlcli: CommandLine, root: Path) -> None:
    fill(root)
    old = [next(root.rglob("*.h5")), root / "backbones" / ("a" * 64)]
    for path in old:
        os.utime(path, (time.time() - 10 * DAY,) * 2)
    before = everything(root)
    cleared = tlcli.json("cache", "clear", "--older-than", 11)
    assert (cleared["segments"], cleared["backbones"], cleared["freed_bytes"]) == (0, 0, 0)
    assert everything(root) == before
    cleared = tlcli.json("cache", "clear", "--older-than", 9.5)
    assert (cleared["segments"], cleared["backbones"]) == (1, 1)
    assert len(list(root.rglob("*.h5"))) == 2
    assert (root / "hashes.sqlite").exists()


def test_clear_leaves_foreign_files_alone(tlcli: CommandLine, root: Path, tmp_path: Path) -> None:
    """Also in folders that the cache has made, and behind symlinks."""
    fill(root)
    space = next(root.rglob("*.h5")).parent
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "photo.jpg").touch()
    for path in (root / "thesis.txt", root / "features" / "thesis.txt", space / "thesis.h5"):
        path.touch()
    (root / "features" / ("9" * 32)).symlink_to(photos)
    (space / ("9" * 64 + ".h5")).symlink_to(photos / "photo.jpg")
    tlcli("cache", "clear")
    assert everything(root) == sorted(
        [
            "features",
            f"features/{'9' * 32}",
            f"features/{space.name}",
            f"features/{space.name}/{'9' * 64}.h5",
            f"features/{space.name}/thesis.h5",
            "features/thesis.txt",
            "thesis.txt",
        ]
    )
    assert (photos / "photo.jpg").exists()


def test_what_cannot_be_deleted_is_named(
    tlcli: CommandLine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root)
    kept = next(root.rglob("*.h5"))
    real = cache.remove
    monkeypatch.setattr(cache, "remove", lambda entry: entry.path != kept and real(entry))
    cleared = tlcli.json("cache", "clear")
    assert (cleared["segments"], cleared["left"]) == (2, 1)
    assert str(kept) in tlcli.err
    assert "1 entry" in tlcli("cache", "clear")


def test_clear_takes_no_negative_age(tlcli: CommandLine) -> None:
    assert "--older-than" in tlcli.error(2, "cache", "clear", "--older-than", -1)


def test_neither_command_imports_tensorflow(root: Path) -> None:
    fill(root)
    code = (
        "import sys; from tlcli.cli.app import run; "
        "assert run(['cache', 'stats']) == run(['cache', 'clear']) == 0; "
        "print('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
