"""The cache folder: what is kept there can be computed again, and results never depend on it.

    features/<32 hex>/<64 hex>.h5   feature vectors of one space, see `features`
    backbones/<64 hex>/             backbones that are ready to be used
    arithmetic/<64 hex>             kinds of arithmetic, see `arithmetic`
    hashes.sqlite                   content hashes of files

Nothing but files and folders of these names is counted or deleted, and no symlink is followed:
a cache folder that is set to somewhere else by mistake loses nothing.
"""

import contextlib
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from tlcli.errors import UsageError

DEFAULT_LIMIT = "20GB"
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

SWEEP_SECONDS = 3600.0
"""Age from which an unfinished file has no writer any more."""

_SPACE = re.compile(r"[0-9a-f]{32}")
_SEGMENT = re.compile(r"[0-9a-f]{64}\.h5")
_DESCRIPTION = re.compile(r"space\.json")
_UNFINISHED_FILE = re.compile(
    r"\.([0-9a-f]{40}([0-9a-f]{24}\.h5)?|space\.json)\.[0-9]+(-[0-9a-f]+)?"
)
_BACKBONE = re.compile(r"[0-9a-f]{64}")
_KIND = re.compile(r"[0-9a-f]{64}")
_UNFINISHED_KIND = re.compile(r"\.[0-9a-f]{40}\.[0-9]+(-[0-9a-f]+)?")
_UNFINISHED_BACKBONE = re.compile(r"\.[0-9a-f]{64}\.[0-9]+")
_ROUNDS = re.compile(r"rounds")
_ANYTHING = re.compile(r".*")
_HASH_INDEX = re.compile(r"hashes\.sqlite(-wal|-shm|-journal)?")


@dataclass(frozen=True)
class Entry:
    """A file of the cache, or a backbone's folder."""

    path: Path
    bytes: int
    last_used: float
    """Seconds since 1970: the time of modification, see `touch`."""


def folder() -> Path:
    """Where caches live: TLCLI_CACHE_DIR, else the user's cache folder."""
    return Path(os.environ.get("TLCLI_CACHE_DIR") or platformdirs.user_cache_dir("tlcli"))


def limit() -> int:
    """Bytes that the cache may hold between commands: TLCLI_CACHE_LIMIT, 0 for nothing.

    Raises:
        UsageError: it is not a size.
    """
    text = os.environ.get("TLCLI_CACHE_LIMIT") or DEFAULT_LIMIT
    size = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Z]*)\s*", text.upper())
    if size is None or size[2] not in UNITS:
        raise UsageError(
            f"Expected a size like 500MB, 20GB or 0. Received: TLCLI_CACHE_LIMIT={text!r}. "
            "Use bytes, KB, MB, GB or TB."
        )
    return int(float(size[1]) * UNITS[size[2]])


def touch(path: Path) -> None:
    """Remember that a segment or a backbone's folder was used just now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def spaces() -> list[Path]:
    """The folders with feature segments."""
    return [path for path, _ in _folders("features", _SPACE)]


def segments(space: Path) -> list[Entry]:
    """The feature segments in one of the `spaces`."""
    return _files(space, _SEGMENT)


def backbones() -> list[Entry]:
    """The backbones that are ready to be used."""
    return _backbones(_BACKBONE)


def kinds() -> list[Entry]:
    """What is remembered of kinds of arithmetic."""
    return _files(folder() / "arithmetic", _KIND)


def hash_index() -> list[Entry]:
    """The files of the index of content hashes."""
    return _files(folder(), _HASH_INDEX)


def unfinished() -> list[Entry]:
    """What a writer is writing aside, or has left behind."""
    found = [entry for space in spaces() for entry in _files(space, _UNFINISHED_FILE)]
    found += _files(folder() / "arithmetic", _UNFINISHED_KIND)
    return found + _backbones(_UNFINISHED_BACKBONE)


def sweep() -> None:
    """Delete what writers that were killed have left behind."""
    for entry in unfinished():
        if time.time() - entry.last_used > SWEEP_SECONDS:
            remove(entry)


def evict() -> None:
    """Delete what was not used for longest until the cache is within its limit.

    What a command holds open stays readable to it. The index of hashes counts, and stays.

    Raises:
        UsageError: the limit is not a size.
    """
    entries = [*(entry for space in spaces() for entry in segments(space)), *backbones()]
    too_much = sum(entry.bytes for entry in (*entries, *hash_index())) - limit()
    for entry in sorted(entries, key=lambda entry: (entry.last_used, entry.path)):
        if too_much <= 0:
            return
        if remove(entry):
            too_much -= entry.bytes


def remove(entry: Entry) -> bool:
    """Delete an entry, a folder never half in sight; whether it is gone."""
    try:
        if stat.S_ISDIR(entry.path.lstat().st_mode):
            aside = entry.path.with_name(f".{entry.path.name.strip('.')[:64]}.{os.getpid()}")
            shutil.rmtree(entry.path.rename(aside))
        else:
            entry.path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_empty_folders() -> None:
    """Delete the folders in which nothing is kept any more."""
    for space in spaces():
        if not segments(space):
            for description in _files(space, _DESCRIPTION):
                remove(description)
        _remove_if_empty(space)
    for name in ("features", "backbones", "arithmetic"):
        _remove_if_empty(folder() / name)


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()


def _backbones(name: re.Pattern[str]) -> list[Entry]:
    """Folders of backbones; none in a run, to which the cache folder may be set by mistake."""
    if _found(folder(), _ROUNDS):
        return []
    return [
        Entry(path, _bytes_below(path), status.st_mtime)
        for path, status in _folders("backbones", name)
    ]


def _folders(parent: str, name: re.Pattern[str]) -> list[tuple[Path, os.stat_result]]:
    place = folder() / parent
    found = [] if place.is_symlink() else _found(place, name)
    return [(path, status) for path, status in found if stat.S_ISDIR(status.st_mode)]


def _files(place: Path, name: re.Pattern[str]) -> list[Entry]:
    return [
        Entry(path, status.st_size, status.st_mtime)
        for path, status in _found(place, name)
        if stat.S_ISREG(status.st_mode)
    ]


def _found(place: Path, name: re.Pattern[str]) -> list[tuple[Path, os.stat_result]]:
    """What lies in a folder under names of one form, sorted; nothing where it cannot be read."""
    try:
        paths = sorted(path for path in place.iterdir() if name.fullmatch(path.name))
    except OSError:
        return []
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            found.append((path, path.lstat()))
    return found


def _bytes_below(place: Path) -> int:
    folders = (Path(parent) for parent, _, _ in os.walk(place))
    return sum(entry.bytes for parent in folders for entry in _files(parent, _ANYTHING))
