"""Folders as they lie on disk: what is in them, sorted, whatever links lead back up."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tlcli.errors import BadImage, DataError
from tlcli.images.reading import readable, reading

# HEIC cannot be decoded here, nor can DICOM without its library, but they are images: they are
# skipped by name rather than ignored.
# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo",
    ".png", ".apng", ".gif", ".bmp", ".ico",
    ".tif", ".tiff", ".webp", ".avif", ".avifs", ".heic", ".heif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm",
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx",
    ".tga", ".icb", ".vda", ".vst",
    ".dcm", ".dicom",
))
# fmt: on
_BEGINNING = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|II\*\0|MM\0\*|RIFF.{4}WEBP|BM.{4}\0{4}|.{4}jP  "
    rb"|.{4}ftyp(?:avif|avis|hei[cxms]|mif1|msf1)|.{128}DICM",
    re.DOTALL,
)
"""How files of the common formats begin."""

_BEGINNING_BYTES = 132

JUNK = frozenset(("thumbs.db", "desktop.ini", "__macosx"))


def partition(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders in `root` and its files; links that lead back up are neither."""
    above = identities(root)
    folders: list[Path] = []
    files: list[Path] = []
    for entry in children(root):
        if not is_folder(entry):
            files.append(Path(entry))
        elif identity(entry) not in above:
            folders.append(Path(entry))
    return folders, files


def walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files below a folder, sorted, hidden ones passed over, links followed.

    Args:
        folder: where to start.
        seen: device and inode of folders not to enter; grows, so that a loop of links ends.
    """
    seen.add(identity(folder))
    waiting = children(folder)[::-1]
    while waiting:
        entry = waiting.pop()
        if not is_folder(entry):
            yield Path(entry)
        elif (found := identity(entry)) not in seen:
            seen.add(found)
            waiting.extend(children(entry)[::-1])


def holds_images(folder: Path) -> bool:
    """Whether an image file lies below a folder, at any depth."""
    return any(map(is_image, walk(folder, identities(folder.parent))))


def children(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    """Return what lies in a folder by name, without hidden files and what systems leave behind."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not _is_hidden(entry.name)]
    except OSError as error:
        raise unreadable(folder, error) from error
    return sorted(visible, key=lambda entry: entry.name)


def unreadable(path: Path | os.DirEntry[str], error: OSError) -> DataError:
    """Return the error of what the system does not let be read."""
    return DataError(
        f"Expected readable data. Received: {os.fspath(path)}: {readable(error)}. Give this "
        "user permission, or move it elsewhere."
    )


def identity(folder: str | os.PathLike[str]) -> tuple[int, int]:
    """Return device and inode of a folder, which a link to it shares."""
    info = Path(folder).stat()
    return info.st_dev, info.st_ino


def identities(folder: Path) -> set[tuple[int, int]]:
    """Return the identities of a folder and of all above it: a link to one of them is a loop."""
    real = folder.resolve()
    return {identity(above) for above in (real, *real.parents)}


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path, or what it links to, is a folder; False for links that lead nowhere."""
    try:
        return path.is_dir() if isinstance(path, os.DirEntry) else Path(path).is_dir()
    except (OSError, ValueError):
        return False


def is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix, or where it has none by its content."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    # DICOM files are often named after numbers with dots.
    return (not suffix or suffix[1:].isdecimal()) and _begins_as_image(path)


def _begins_as_image(path: Path) -> bool:
    try:
        with reading(path) as file:
            return _BEGINNING.match(file.read(_BEGINNING_BYTES)) is not None
    except BadImage:
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK
