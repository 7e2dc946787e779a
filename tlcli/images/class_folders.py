"""Copies of images in folders named after their classes."""

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tlcli import files
from tlcli.errors import StorageError, UsageError
from tlcli.images.walking import is_folder, is_hidden
from tlcli.urls import Place, lies_in, opened, place


def require_outside(folder: Path, paths: Sequence[str]) -> None:
    """Refuse a folder for copies that lies in one that is searched or is the run.

    Raises:
        UsageError: names both.
    """
    for path in paths:
        if is_folder(place(path)) and lies_in(folder, place(path)):
            raise UsageError(
                f"Expected a folder for copies outside of {path}, which is used itself. "
                f"Received: --copy-into {folder}. Choose another."
            )


def copy_into(folder: Path, label: str, image: Place, sha256: str) -> Path:
    """Copy an image into the folder of its class; the path of the copy.

    A copy that is there already is not made again, and no file is replaced: another image of the
    same name is numbered.

    Args:
        folder: of the class folders; what is missing is made.
        label: class name. What cannot be in the name of a folder is written as %2F and alike.
        image: the file.
        sha256: of its content.

    Raises:
        StorageError: it cannot be written.
    """
    home = folder / _folder_name(label)
    try:
        files.make_folders(home)
        target = next(name for name in _names(home, image) if _is_free(name, sha256))
        if not target.exists():
            with opened(image) as source, files.published(target) as copy:
                shutil.copyfileobj(source, copy)
    except OSError as error:
        raise StorageError(
            f"Expected to be able to copy {image} into {home}. Received: "
            f"{error.strerror or error}. Choose another --copy-into."
        ) from error
    return target


def _is_free(name: Path, sha256: str) -> bool:
    """Whether nothing has the name, or the copy itself."""
    if not os.path.lexists(name):
        return True
    return name.is_file() and files.sha256(name, links=True) == sha256


def _folder_name(label: str) -> str:
    """One that a folder can have, and that is not passed over where images are looked for."""
    name = label.replace("/", "%2F")
    if name in (".", ".."):
        return name.replace(".", "%2E")
    return f"%{ord(name[0]):02X}{name[1:]}" if is_hidden(name) else name


def _names(home: Path, image: Place) -> Iterator[Path]:
    yield home / image.name
    for number in itertools.count(2):
        yield home / f"{image.stem}-{number}{image.suffix}"
