"""What is made beside its target, flushed, and renamed into place; and what was left of it."""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tlcli.files.failures import saving
from tlcli.files.paths import sync

_HERE, _EXCHANGE = -100, 2
"""Linux' AT_FDCWD and RENAME_EXCHANGE."""

_OLD = ".old"
"""Behind the name of a folder that is being replaced."""

ABANDONED_SECONDS = 3600.0
"""Age from which what is unfinished has no writer, where the file system has no locks."""


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream that becomes the file `path`, whole and flushed, when the block ends.

    The bytes go to a temporary name beside it, which is renamed; nothing is left when the block
    raises.

    Raises:
        StorageError: the disk is full or the folder may not be written.
    """
    with saving(path), _aside(path, lambda draft: draft.touch(exist_ok=False)) as aside:
        with aside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
        sync(path.parent)


@contextmanager
def published(path: Path) -> Iterator[BinaryIO]:
    """As `written`, for a file in a folder of the user: what killed processes left goes first."""
    sweep(path)
    with written(path) as stream:
        yield stream


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A hidden folder beside a target, in which it is made ready; gone when the block ends.

    Raises:
        StorageError: it cannot be made.
    """
    with _aside(target, lambda draft: _made(draft, target)) as folder:
        yield folder


def _made(folder: Path, target: Path) -> None:
    with saving(target):
        folder.mkdir()


@contextmanager
def _aside(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new hidden path beside a target; while the block runs, no `sweep` takes it away."""
    lock = None
    while lock is None:
        path = target.with_name(f".{target.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}")
        make(path)
        lock = _lock(path)
    try:
        with _removing(path):
            yield path
    finally:
        os.close(lock)


@contextmanager
def _removing(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        _remove(path)


def _lock(path: Path) -> int | None:
    """Hold the lock of a new path, if the file system has any, until what is returned is closed.

    None where a `sweep` came first.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if path.exists():
        return descriptor
    os.close(descriptor)
    return None


def _remove(path: Path) -> None:
    """Remove a file or a folder, as far as that is possible."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sweep(target: Path, settle: Callable[[Path], None] | None = None) -> None:
    """Remove what killed processes left beside a target, never what a live one is writing.

    Args:
        target: what they were making.
        settle: is called with each of the hidden paths before it is removed.
    """
    name = re.compile(rf"\.{re.escape(target.name[:40])}\.[0-9]+-[0-9a-f]{{8}}")
    with contextlib.suppress(OSError):
        for path in [path for path in target.parent.iterdir() if name.fullmatch(path.name)]:
            with contextlib.suppress(OSError), _taken(path) as abandoned:
                if abandoned:
                    if settle:
                        settle(path)
                    _restore(path / f"{target.name}{_OLD}", target)
                    _remove(path)


@contextmanager
def _taken(path: Path) -> Iterator[bool]:
    """Whether a hidden path has no writer; while the block runs it gets none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError:
            yield time.time() - os.fstat(descriptor).st_mtime > ABANDONED_SECONDS
        else:
            yield True
    finally:
        os.close(descriptor)


def _restore(old: Path, target: Path) -> None:
    """Give a folder that was to be replaced its name back, if the new one never came."""
    if old.is_dir() and not target.exists():
        old.rename(target)
        sync(target.parent)


def replace_folder(draft: Path, target: Path) -> None:
    """Rename a folder to a name at which nothing, or another folder, is; the other is removed.

    Where the system can exchange two names, a kill leaves one of the folders whole at `target`;
    elsewhere there is a moment at which the old one lies in the `staging` of the draft, from which
    `sweep` brings it back.

    Raises:
        StorageError: the disk is full or the folder may not be written.
    """
    with saving(target):
        _flush(draft)
        if not _moved(draft, target) and not _exchanged(draft, target):
            draft = _exchanged_in_steps(draft, target)
        sync(target.parent)
    shutil.rmtree(draft, ignore_errors=True)


def place_folder(draft: Path, target: Path) -> bool:
    """Rename a folder to a name at which nothing is; whether that was so.

    Raises:
        StorageError: the disk is full or the folder may not be written.
    """
    with saving(target):
        _flush(draft)
        placed = _moved(draft, target)
        sync(target.parent)
    return placed


def _flush(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        sync(path)


def _moved(draft: Path, target: Path) -> bool:
    """Whether a folder could be renamed because nothing had the name, until the very end."""
    if target.exists():
        return False
    try:
        draft.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _exchanged_in_steps(draft: Path, target: Path) -> Path:
    """Put a folder in the place of another one; where that is now."""
    old = draft.with_name(f"{target.name}{_OLD}")
    target.rename(old)
    try:
        draft.rename(target)
    except OSError:
        old.rename(target)
        raise
    return old


def _exchanged(first: Path, second: Path) -> bool:
    """Whether Linux could exchange two names in one step."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return int(rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE)) == 0


def json_text(content: Any, indent: int | None = None, *, sort_keys: bool = False) -> str:
    """JSON that can be written in UTF-8.

    Bytes of a file name that are none are escaped as lone surrogates, which Python's `json` and
    `os.fsencode` turn back into the bytes.
    """
    text = json.dumps(content, indent=indent, sort_keys=sort_keys, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, indent=indent, sort_keys=sort_keys)
    return text


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object durably."""
    with written(path) as stream:
        stream.write((json_text(content, indent=1) + "\n").encode())
