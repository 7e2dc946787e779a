"""What an error of the system means for the user."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlcli.errors import RunError, StorageError, TlcliError

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


def require_resources(error: BaseException, path: object) -> None:
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
