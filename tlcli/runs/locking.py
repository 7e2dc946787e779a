"""The lock of a run: one writer."""

import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from tlcli import files
from tlcli.errors import RunLocked
from tlcli.runs.parts import LOCK, require_own


@contextmanager
def locked(path: Path, wait_seconds: float, anew: bool = False) -> Iterator[None]:
    """Hold the lock of a folder for the block; one process at a time has it.

    Args:
        path: the folder.
        wait_seconds: for another process that holds it.
        anew: make the folder again where that process removes it.

    Raises:
        RunLocked: another process holds it for longer than `wait_seconds`.
        RunError: something else is in its place.
        StorageError: the lock cannot be made.
        FileNotFoundError: the folder was removed.
    """
    require_own(path / LOCK, stat.S_ISREG)
    lock = filelock.FileLock(path / LOCK)
    deadline = time.monotonic() + wait_seconds
    with files.saving(path / LOCK):
        while not lock.is_locked:
            try:
                _acquire(lock, path, max(deadline - time.monotonic(), 0.0))
            except FileNotFoundError:
                if not anew:
                    raise
                files.make_folders(path)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: filelock.BaseFileLock, path: Path, wait_seconds: float) -> None:
    try:
        lock.acquire(timeout=wait_seconds, poll_interval=0.1)
    except filelock.Timeout as error:
        raise RunLocked(
            f"Expected {path} to be free. Received: another process is writing to it. "
            "Try again later, or wait with --wait SECONDS."
        ) from error
