"""The same file elsewhere: linked or copied."""

import shutil
from pathlib import Path

from tlcli import strict
from tlcli.files.drafts import written


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
