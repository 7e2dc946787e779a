"""Durable files: written aside, flushed, renamed into place; hashed; arrays in HDF5."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from tlcli import strict
from tlcli.errors import RunError, StorageError, TlcliError
from tlcli.strict.arrays import ArrayFile, array_file

Arrays = dict[str, NDArray[Any]]

_HERE, _EXCHANGE = -100, 2
"""Linux' AT_FDCWD and RENAME_EXCHANGE."""

_OLD = ".old"
"""Behind the name of a folder that is being replaced."""

ABANDONED_SECONDS = 3600.0
"""Age from which what is unfinished has no writer, where the file system has no locks."""

_CANNOT_SAVE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EFBIG,
    errno.EIO,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.EBUSY,
}

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK}
"""The system has run out of something: nothing is wrong with the file."""


def sha256(path: Path, *, links: bool = False) -> str:
    """Hex SHA-256 of a regular file's bytes.

    Args:
        path: of the file.
        links: whether it may be a symbolic link, as where a user names it.

    Raises:
        OSError: it is none, or cannot be read.
    """
    with strict.opened(path, links=links) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the device."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(path: Path) -> list[Path]:
    """Make a folder and those above it, durably; which of them were missing, the deepest first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync(folder.parent)
    except OSError:
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders in which there is nothing."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextmanager
def saving(target: Path) -> Iterator[None]:
    """Turn the failures of a full or forbidden disk into a StorageError that names `target`."""
    try:
        yield
    except OSError as error:
        require_resources(error, target)
        if error.errno not in _CANNOT_SAVE:
            raise
        raise StorageError(
            f"Expected to be able to write {target}. Received: {error.strerror or error}. "
            "Free space, or choose a folder you may write to."
        ) from error


def require_resources(error: BaseException, path: Path) -> None:
    """Raise StorageError for an error that says nothing of a file: the system has no more of it."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _EXHAUSTED:
        reason = getattr(error, "strerror", None) or "not enough memory"
        raise StorageError(
            f"Expected a system that lets {path} be opened. Received: {reason}. "
            "Close other programs or raise their limits, and run the command again."
        ) from error


def failure(error: OSError | MemoryError) -> TlcliError | None:
    """What an error of the system means for the user; None where it is a bug of this program."""
    if isinstance(error, MemoryError):
        return StorageError(
            "Expected enough memory. Received: there is no more. Close other programs, or run the "
            "command on a larger machine."
        )
    name = f" {os.fsdecode(error.filename)}" if error.filename is not None else ""
    if error.errno in _CANNOT_SAVE | _EXHAUSTED | {errno.EBADF}:
        return StorageError(f"Expected to be able to write{name}. Received: {error.strerror}.")
    if error.errno in (errno.ENOENT, errno.ESTALE) and name:
        return RunError(
            f"Expected{name} to stay where it was. Received: {error.strerror}. It was moved or "
            "removed meanwhile: run the command again."
        )
    return None


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


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links.

    Raises:
        StorageError: it cannot be written.
        OSError: the source cannot be read.
    """
    try:
        target.hardlink_to(source)
    except OSError:
        copy(source, target)


def copy(source: Path, target: Path) -> None:
    """Copy a regular file.

    Raises:
        StorageError: it cannot be written.
        OSError: it cannot be read, or is something else.
    """
    with strict.opened(source) as stream, written(target) as copied:
        shutil.copyfileobj(stream, copied)


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a folder, which has no folders, into another that is there.

    Raises:
        StorageError: they cannot be written.
        OSError: they cannot be read.
    """
    for path in sorted(source.iterdir()):
        copy(path, target / path.name)


def why_full(error: BaseException, folder: Path, expected_bytes: int) -> str | None:
    """Why a foreign library could not save, where that is the reason of its error; else None.

    Args:
        error: what it raised; its text may name the reason of the system.
        folder: where it was writing.
        expected_bytes: not every library says that the disk is full; it is the reason where a
            file of this size has no room either.
    """
    texts = [os.strerror(code) for code in sorted(_CANNOT_SAVE)]
    if told := next((text for text in texts if text in str(error)), None):
        return told
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, max(expected_bytes, 1))
    except OSError as failure:
        return os.strerror(failure.errno or errno.EIO)
    return None


def replace_folder(draft: Path, target: Path) -> None:
    """Rename a folder to a name at which nothing, or another folder, is; the other is removed.

    Where the system can exchange two names, a kill leaves one of the folders whole at `target`;
    elsewhere there is a moment at which the old one lies in the `staging` of the draft, from which
    `sweep` brings it back.

    Raises:
        StorageError: the disk is full or the folder may not be written.
    """
    with saving(target):
        for path in (*draft.rglob("*"), draft):
            sync(path)
        if not target.exists():
            draft.rename(target)
        elif not _exchanged(draft, target):
            draft = _exchanged_in_steps(draft, target)
        sync(target.parent)
    shutil.rmtree(draft, ignore_errors=True)


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


def require_folder(path: Path, option: str) -> None:
    """Refuse, before any work, a file whose folder is not there or may not be written to.

    Raises:
        StorageError: names the option that the file was given with.
    """
    if not path.parent.is_dir():
        raise StorageError(
            f"Expected a folder for {option}. Received: {path.parent} is none. "
            f"Make it, or choose another {option}."
        )
    if not os.access(path.parent, os.W_OK):
        raise StorageError(
            f"Expected to be able to write {path}. Received: its folder is read-only. "
            f"Choose another {option}."
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object durably."""
    with written(path) as stream:
        stream.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def save_arrays(path: Path, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
    """Write arrays and attributes to a new HDF5 file durably; equal input gives equal bytes."""
    content = pack_arrays(arrays, attributes)
    with written(path) as stream:
        stream.write(content)


def pack_arrays(arrays: Arrays, attributes: Mapping[str, Any]) -> bytes:
    """The bytes of an HDF5 file.

    It is made in memory: HDF5 reports a full disk as a RuntimeError at close, and may crash.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    return memory.getvalue()


@contextmanager
def loading_arrays(path: Path, newest_format: int) -> Iterator[ArrayFile]:
    """Open what `save_arrays` wrote, with its attribute `format`.

    Compare the file's hash first where it can be damaged: HDF5 may hang on a flipped bit.

    Raises:
        RunError: the file is newer than this program, damaged, or not of this kind.
    """
    with parsing(path), strict.opened(path) as stream, array_file(stream) as file:
        require_format(path, file, newest_format)
        yield file


def require_format(path: Path, file: ArrayFile, newest_format: int) -> None:
    """Refuse a file that a newer program wrote.

    Raises:
        RunError: it did.
        Malformed: the file does not say.
    """
    found = file.attribute("format", strict.whole(1, 2**31))
    if found > newest_format:
        raise RunError(
            f"Expected format {newest_format} or older. Received: {path} has format {found}. "
            "Upgrade tlcli; the file was left untouched."
        )


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the content of a run's file into a RunError that names it."""
    try:
        yield
    except (OSError, ValueError) as error:
        require_resources(error, path)
        raise RunError(
            f"Expected an intact file. Received: {path} is damaged ({error}). "
            "Run `tlcli rounds verify` to see what else is."
        ) from error


def text_array(texts: tuple[str, ...]) -> NDArray[Any]:
    """Texts as one array of UTF-8 bytes joined by newlines (names contain none)."""
    return np.frombuffer("\n".join(texts).encode(), dtype=np.uint8)
