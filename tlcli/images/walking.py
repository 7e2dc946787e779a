"""Folders, on disk or at a URL: what is in them, sorted, whatever links lead back up."""

import os
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tlcli import urls
from tlcli.errors import BadImage, DataError
from tlcli.images.reading import readable, reading
from tlcli.urls import Place, Url

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


@dataclass(frozen=True)
class Child:
    """What lies in a folder."""

    path: Place
    is_folder: bool


def partition(root: Place) -> tuple[list[Place], list[Place]]:
    """Return the folders in `root` and its files; links that lead back up are neither."""
    above = identities(root)
    folders: list[Place] = []
    files: list[Place] = []
    for child in children(root):
        if not child.is_folder:
            files.append(child.path)
        elif identity(child.path) not in above:
            folders.append(child.path)
    return folders, files


def walk(folder: Place, seen: set[Hashable]) -> Iterator[Place]:
    """Yield the files below a folder, sorted, hidden ones passed over, links followed.

    Args:
        folder: where to start.
        seen: identities of folders not to enter; grows, so that a loop of links ends.
    """
    seen.add(identity(folder))
    waiting = children(folder)[::-1]
    while waiting:
        child = waiting.pop()
        if not child.is_folder:
            yield child.path
        elif (found := identity(child.path)) not in seen:
            seen.add(found)
            waiting.extend(children(child.path)[::-1])


def holds_images(folder: Place) -> bool:
    """Whether an image file lies below a folder, at any depth."""
    return any(map(is_image, walk(folder, identities(folder.parent))))


def children(folder: Place) -> list[Child]:
    """Return what lies in a folder by name, without hidden files and what systems leave behind."""
    try:
        found = _at_url(folder) if isinstance(folder, Url) else _on_disk(folder)
    except OSError as error:
        raise unreadable(folder, error) from error
    visible = [child for child in found if not is_hidden(child.path.name)]
    return sorted(visible, key=lambda child: child.path.name)


def _on_disk(folder: Path) -> list[Child]:
    with os.scandir(folder) as entries:
        return [Child(Path(entry), _leads_to_folder(entry)) for entry in entries]


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _at_url(folder: Url) -> list[Child]:
    folders, objects = urls.children(folder)
    return [*(Child(url, True) for url in folders), *(Child(url, False) for url in objects)]


def unreadable(path: Place, error: OSError) -> DataError:
    """Return the error of what the system does not let be read."""
    advice = (
        "Correct the address, or what this user may read there."
        if isinstance(path, Url)
        else "Give this user permission, or move it elsewhere."
    )
    return DataError(f"Expected readable data. Received: {path}: {readable(error)}. {advice}")


def identity(folder: Place) -> Hashable:
    """Return device and inode of a folder, which a link to it shares; a URL as it is."""
    if isinstance(folder, Url):
        return folder.text
    info = folder.stat()
    return info.st_dev, info.st_ino


def identities(folder: Place) -> set[Hashable]:
    """Return the identities of a folder and of all above it: a link to one of them is a loop."""
    if isinstance(folder, Url):
        return set()
    real = folder.resolve()
    return {identity(above) for above in (real, *real.parents)}


def is_folder(path: Place) -> bool:
    """Whether a path, or what it links to, is a folder; False for links that lead nowhere."""
    try:
        return urls.is_folder(path) if isinstance(path, Url) else path.is_dir()
    except (OSError, ValueError):
        return False


def is_image(path: Place) -> bool:
    """Whether a file is an image by its suffix, or where it has none by its content."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    # DICOM files are often named after numbers with dots.
    return (not suffix or suffix[1:].isdecimal()) and _begins_as_image(path)


def _begins_as_image(path: Place) -> bool:
    try:
        with reading(path) as file:
            return _BEGINNING.match(file.read(_BEGINNING_BYTES)) is not None
    except BadImage:
        return False


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith(".") or name.lower() in JUNK
