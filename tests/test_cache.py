"""The cache deletes what was not used for longest, and nothing that it has not made."""

import os
import shutil
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tlcli import cache
from tlcli.errors import UsageError

SPACE, KEY = "a" * 32, "b" * 64


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which does not exist yet."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("TLCLI_CACHE_LIMIT", raising=False)
    return tmp_path / "cache"


def put(path: Path, size: int = 100, used: float = 1000.0) -> Path:
    """A file that was last used at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (used, used))
    return path


def put_segment(
    root: Path, digit: str, size: int = 100, used: float = 1000.0, space: str = SPACE
) -> Path:
    return put(root / "features" / space / f"{digit * 64}.h5", size, used)


def put_backbone(root: Path, digit: str, size: int = 100, used: float = 1000.0) -> Path:
    path = put(root / "backbones" / (digit * 64) / "model" / "weights.bin", size).parents[1]
    os.utime(path, (used, used))
    return path


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def limited(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TLCLI_CACHE_LIMIT", text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("7B", 7),
        ("1KB", 1000),
        ("500MB", 500 * 10**6),
        ("20GB", 20 * 10**9),
        ("1.5 tb", 1500 * 10**9),
        (" 2gb ", 2 * 10**9),
    ],
)
def test_the_limit_is_a_size(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    limited(monkeypatch, text)
    assert cache.limit() == size


def test_the_limit_is_20_gb_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.limit() == 20 * 10**9
    limited(monkeypatch, "")
    assert cache.limit() == 20 * 10**9


@pytest.mark.parametrize("text", ["much", "-1", "20 G", "GB", "1e9", "20GB or so", "٣GB", "1,5GB"])
def test_nonsense_is_no_limit(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    limited(monkeypatch, text)
    with pytest.raises(UsageError, match="Received: TLCLI_CACHE_LIMIT=") as refused:
        cache.limit()
    assert repr(text) in str(refused.value)


def test_what_was_not_used_for_longest_goes_first(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        put_segment(root, "1", used=500),
        put_backbone(root, "2", used=100),
        put_segment(root, "3", used=200, space="c" * 32),
        put_segment(root, "4", used=400),
        put_backbone(root, "5", used=300),
    ]
    for left, gone in [(5, ""), (4, "2"), (3, "23"), (2, "235"), (1, "2354"), (0, "23541")]:
        limited(monkeypatch, str(left * 100 + 99 * (left < 5)))
        cache.evict()
        assert [path.exists() for path in entries] == [digit not in gone for digit in "12345"]


def test_use_is_remembered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = put_segment(root, "1", used=100), put_segment(root, "2", used=200)
    third = put_backbone(root, "3", used=50)
    cache.touch(first)
    cache.touch(third)
    limited(monkeypatch, "200")
    cache.evict()
    assert [path.exists() for path in (first, second, third)] == [True, False, True]
    cache.touch(second)


def test_the_index_of_hashes_counts_and_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment, index = put_segment(root, "1"), put(root / "hashes.sqlite", 500, used=1)
    limited(monkeypatch, "600")
    cache.evict()
    assert segment.exists()
    limited(monkeypatch, "599")
    cache.evict()
    assert index.exists()
    assert not segment.exists()


def test_a_file_that_cannot_be_deleted_does_not_stop_the_eviction(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = put_segment(root, "1", used=1), put_segment(root, "2", used=2)
    real = Path.unlink

    def unlink(path: Path, **options: Any) -> None:
        if path == first:
            raise PermissionError
        real(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    limited(monkeypatch, "100")
    cache.evict()
    assert first.exists()
    assert not second.exists()


FOREIGN = [
    "photo.jpg",
    "features/photo.jpg",
    f"features/{SPACE}/photo.jpg",
    f"features/{SPACE}/{KEY}.h5.orig",
    f"features/{SPACE}/{KEY.upper()}.h5",
    f"features/{SPACE}/.{KEY}.h5",
    f"features/{SPACE}/below/{KEY}.h5",
    f"features/{SPACE}x/{KEY}.h5",
    f"features/{KEY}.h5",
    f"{SPACE}/{KEY}.h5",
    f"backbones/{KEY}",
    f"backbones/{KEY}x/weights.bin",
    "backbones/mine/weights.bin",
    "hashes.sqlite/inner",
    "hashes.sqlite3",
    "my-hashes.sqlite",
]


def everything() -> list[cache.Entry]:
    segments = [entry for space in cache.spaces() for entry in cache.segments(space)]
    return [*segments, *cache.backbones(), *cache.hash_index(), *cache.unfinished()]


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_not_the_cache_s(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    foreign = put(root / name)
    limited(monkeypatch, "0")
    cache.evict()
    assert everything() == []
    cache.remove_empty_folders()
    assert foreign.exists()


@pytest.mark.parametrize("name", ["features", f"features/{SPACE}", "backbones", f"backbones/{KEY}"])
def test_no_symlink_is_followed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    put_segment(elsewhere, "1")
    put_backbone(elsewhere, "b")
    (root / name).parent.mkdir(parents=True)
    (root / name).symlink_to(elsewhere / name)
    if name == f"features/{SPACE}":
        assert (root / name / ("1" * 64 + ".h5")).exists()
    before = files_in(elsewhere)
    limited(monkeypatch, "0")
    cache.evict()
    assert everything() == []
    cache.remove_empty_folders()
    assert files_in(elsewhere) == before


def test_a_symlink_in_a_backbone_s_folder_is_not_followed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = put(tmp_path / "photos" / "photo.jpg")
    backbone = put_backbone(root, "1")
    (backbone / "link").symlink_to(photo.parent)
    (entry,) = cache.backbones()
    assert entry.bytes == 100
    limited(monkeypatch, "0")
    cache.evict()
    assert not backbone.exists()
    assert photo.exists()


def test_a_run_is_not_taken_for_a_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = put_backbone(root, "1")
    put(root / "rounds" / "0001" / "round.json")
    limited(monkeypatch, "0")
    cache.evict()
    assert everything() == []
    assert backbone.exists()


@pytest.mark.parametrize(
    "name",
    [
        f"features/{SPACE}/.{KEY}.h5.123",
        f"features/{SPACE}/.{KEY[:40]}.123-0123abcd",
        f"features/{SPACE}/.space.json.123",
        f"backbones/.{KEY}.123/model.keras",
    ],
)
@pytest.mark.parametrize(("age", "kept"), [(3000, True), (4000, False)])
def test_unfinished_files_are_swept_after_an_hour(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, age: int, kept: bool
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    path = put(root / name, used=1_000_000.0 - age)
    (entry,) = cache.unfinished()
    os.utime(entry.path, (1_000_000.0 - age,) * 2)
    cache.sweep()
    assert path.exists() == kept


def test_a_backbone_is_never_seen_half_deleted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_backbone(root, "1")
    (entry,) = cache.backbones()
    seen = []

    def failing(path: Path) -> NoReturn:
        seen.append(path)
        raise PermissionError

    monkeypatch.setattr(shutil, "rmtree", failing)
    assert not cache.remove(entry)
    assert not entry.path.exists()
    assert [left.path for left in cache.unfinished()] == seen


def test_what_has_gone_already_is_gone(root: Path) -> None:
    put_segment(root, "1")
    put_backbone(root, "2")
    entries = everything()
    assert [cache.remove(entry) for entry in entries * 2] == [True] * 4


def test_a_cache_that_is_not_there_is_empty(root: Path) -> None:
    cache.evict()
    cache.sweep()
    assert everything() == []
    cache.remove_empty_folders()
    assert not root.exists()
    root.write_text("in the way")
    cache.evict()
    assert everything() == []
    cache.remove_empty_folders()
    assert root.read_text() == "in the way"
