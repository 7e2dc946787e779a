"""Durable files: written aside, flushed, renamed into place; hashed; arrays in HDF5."""

import ctypes
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from tlcli.errors import RunError, StorageError, TlcliError

Arrays = dict[str, NDArray[Any]]

_HERE, _EXCHANGE = -100, 2
"""Linux' AT_FDCWD and RENAME_EXCHANGE."""

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


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the device."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    aside = path.with_name(f".{path.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with saving(path):
            with aside.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(path)
            sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links.

    Raises:
        StorageError: it cannot be written.
        OSError: the source cannot be read.
    """
    try:
        target.hardlink_to(source)
    except OSError:
        with source.open("rb") as stream, written(target) as copy:
            shutil.copyfileobj(stream, copy)


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a folder, which has no folders, into another that is there.

    Raises:
        StorageError: they cannot be written.
        OSError: they cannot be read.
    """
    for path in sorted(source.iterdir()):
        with path.open("rb") as stream, written(target / path.name) as copy:
            shutil.copyfileobj(stream, copy)


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
    elsewhere there is a moment at which the old one lies beside it under a hidden name.

    Raises:
        StorageError: the disk is full or the folder may not be written.
    """
    with saving(target):
        for path in (*draft.rglob("*"), draft):
            sync(path)
        if not target.exists():
            draft.rename(target)
        elif not _exchanged(draft, target):
            target.rename(draft.with_name(f"{draft.name}.old"))
            draft.rename(target)
            draft = draft.with_name(f"{draft.name}.old")
        sync(target.parent)
    shutil.rmtree(draft, ignore_errors=True)


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


def load_arrays(path: Path, newest_format: int) -> tuple[Arrays, dict[str, Any]]:
    """Read what `save_arrays` wrote, with its attribute `format`.

    Compare the file's hash first where it can be damaged: HDF5 may hang on a flipped bit.

    Raises:
        RunError: the file is newer than this program.
        OSError, KeyError, ValueError: the file is damaged or not of this kind.
    """
    arrays, attributes = unpack_arrays(path.read_bytes())
    if int(attributes["format"]) > newest_format:
        raise RunError(
            f"Expected format {newest_format} or older. Received: {path} has format "
            f"{attributes['format']}. Upgrade tlcli; the file was left untouched."
        )
    return arrays, attributes


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the content of a run's file into a RunError that names it."""
    try:
        yield
    except (OSError, KeyError, ValueError, IndexError) as error:
        require_resources(error, path)
        raise RunError(
            f"Expected an intact file. Received: {path} is damaged ({error}). "
            "Run `tlcli rounds verify` to see what else is."
        ) from error


def unpack_arrays(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    """The inverse of `pack_arrays`.

    Raises:
        ValueError: the bytes are damaged or not of this kind.
    """
    with unpacking(io.BytesIO(content)) as file:
        return {name: own_dataset(file, name)[()] for name in file}, dict(file.attrs)


@contextmanager
def unpacking(stream: BinaryIO) -> Iterator[h5py.File]:
    """Open an HDF5 file; use only what `own_dataset` gives.

    Raises:
        ValueError: it is damaged or not of this kind.
    """
    try:
        with h5py.File(stream, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError, TypeError, AttributeError, MemoryError) as error:
        raise ValueError(str(error)) from error


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set that is stored in this very file: links to other files are refused.

    Raises:
        KeyError, ValueError: there is none.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link to elsewhere")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} is not stored in this file")
    return dataset


def text_array(texts: tuple[str, ...]) -> NDArray[Any]:
    """Texts as one array of UTF-8 bytes joined by newlines (names contain none)."""
    return np.frombuffer("\n".join(texts).encode(), dtype=np.uint8)


def texts_of(array: NDArray[Any]) -> tuple[str, ...]:
    """The inverse of `text_array`."""
    joined = array.tobytes().decode()
    return tuple(joined.split("\n")) if joined else ()
