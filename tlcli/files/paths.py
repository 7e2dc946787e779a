"""Files and folders that are there: hashed and flushed."""

import contextlib
import hashlib
import os
from pathlib import Path

from tlcli import strict
from tlcli.errors import StorageError


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
