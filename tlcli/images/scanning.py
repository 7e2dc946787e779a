"""DATA → Listing: every image named, hashed, and counted once; nothing is decoded."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TextIO

from tlcli.config import Columns
from tlcli.errors import BadImage, DataError
from tlcli.images.hashing import content_hashes
from tlcli.images.missing_files import Lost
from tlcli.images.passed_over import PassedOver, passed_over
from tlcli.images.reading import MISSING
from tlcli.images.sources import (
    USUAL,
    Entry,
    Found,
    find_entries,
    find_images,
    growing,
    image_batches,
)
from tlcli.images.walking import IMAGE_SUFFIXES, is_folder
from tlcli.urls import Place, Url, place

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageFile",
    "LabelledImage",
    "Listing",
    "Skipped",
    "contents",
    "find_images",
    "growing",
    "image_batches",
    "scan",
]

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

EMPTY = sha256().hexdigest()


@dataclass(frozen=True)
class ImageFile:
    """One image, and the SHA-256 of its bytes in hexadecimal."""

    path: Place
    sha256: str
    content: bytes | None = field(default=None, repr=False, compare=False)
    """Its bytes, where it is on no disk; the path says nothing then."""


def group_key(name: str) -> str:
    """Return what stands for a group in a run, which is told no names; empty for none."""
    return name and sha256(f"group {name}".encode()).hexdigest()


@dataclass(frozen=True)
class LabelledImage(ImageFile):
    """An image and its class."""

    label: str = field(kw_only=True)
    group: str = field(default="", kw_only=True)
    """The name of what it belongs to with others, as a scene or a patient; empty for nothing."""

    @property
    def group_key(self) -> str:
        """See `group_key`."""
        return group_key(self.group)


@dataclass(frozen=True)
class Skipped:
    """A file that is left out, and why."""

    path: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """Return `{"path": …, "reason": …}`."""
        return {"path": self.path, "reason": self.reason}


@dataclass(frozen=True)
class Listing:
    """What a data source holds."""

    images: tuple[LabelledImage, ...]
    """Unique by content, sorted by label and then by path as given."""
    skipped: tuple[Skipped, ...] = ()
    """Files that cannot be read, are empty, or carry conflicting labels, sorted by path."""
    duplicates: int = 0
    """Further copies of an image under its label; the first copy is among the images."""
    passed_over: tuple[PassedOver, ...] = ()
    """Files in folders that are no images by their suffix; hidden ones are not counted."""
    empty_classes: tuple[str, ...] = ()
    """Class folders without an image file."""
    conflicts: int = 0
    """How many of the skipped files are copies of an image that has several labels."""

    named_classes: tuple[str, ...] = ()
    """Every class that is named, sorted; also those without an image or with skipped ones only."""
    parts: tuple[str, ...] = ()
    """Names like train and test of folders in every class folder, whose images are read together.
    """
    lost: Lost | None = None
    """Paths of a table that lead nowhere."""

    @property
    def ignored(self) -> int:
        """How many files were passed over."""
        return sum(entry.files for entry in self.passed_over)

    @property
    def unlabelled(self) -> bool:
        """Whether the images have no classes."""
        return not any(self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that have images, sorted."""
        return tuple(sorted(set(self.labels)))

    @property
    def labels(self) -> tuple[str, ...]:
        """The class name of each image."""
        return tuple(image.label for image in self.images)

    @property
    def sha256s(self) -> tuple[str, ...]:
        """The content hash of each image."""
        return tuple(image.sha256 for image in self.images)

    @property
    def paths(self) -> tuple[Place, ...]:
        """The file of each image."""
        return tuple(image.path for image in self.images)

    @property
    def total(self) -> int:
        """Images and skipped files together: what a share of bad files refers to."""
        return len(self.images) + len(self.skipped)


def scan(
    data: str | Place,
    *,
    stdin: TextIO | None = None,
    columns: Columns = USUAL,
    progress: Progress | None = None,
) -> Listing:
    """Return the labelled images of a folder of class folders, a table, or standard input.

    Args:
        data: a folder, a .csv/.tsv/.txt table with the columns path,label, or "-".
        stdin: what "-" reads, by default `sys.stdin`; its header line is optional.
        columns: what those of a table are called.
        progress: called with (files hashed, files in all) after each.

    Raises:
        UsageError: `data` does not exist.
        DataError: it holds no labelled images, may not be read, or is malformed.
        DividedData: it is a dataset that comes in parts like train and test.
    """
    listing = listed(data, stdin=stdin, columns=columns, progress=progress)
    _require_found(listing.lost)
    return listing


def listed(
    data: str | Place, *, stdin: TextIO | None, columns: Columns, progress: Progress | None
) -> Listing:
    """Return the same as `scan`, also of a table whose paths all lead nowhere."""
    found = find_entries(data, stdin, columns)
    hashed, unreadable = _hash_all(found.entries, progress)
    images, conflicting = _unique(hashed)
    stray = [Skipped(str(path), "it lies in no class folder") for path in found.stray]
    return Listing(
        images=tuple(images),
        skipped=tuple(sorted([*stray, *unreadable, *conflicting], key=lambda skip: skip.path)),
        duplicates=len(hashed) - len(images) - len(conflicting),
        passed_over=passed_over(found.ignored),
        empty_classes=found.empty_classes,
        conflicts=len(conflicting),
        named_classes=tuple(
            sorted({entry.label for entry in found.entries}.union(found.empty_classes))
        ),
        parts=found.parts,
        lost=_lost(found, [skip.path for skip in unreadable if skip.reason == MISSING]),
    )


def contents(
    data: str | Place, *, stdin: TextIO | None = None, columns: Columns = USUAL
) -> frozenset[str]:
    """Return the content hashes of all images that can be read in a folder or table.

    See `content_groups`.
    """
    return frozenset(content_groups(data, stdin=stdin, columns=columns))


def content_groups(
    data: str | Place, *, stdin: TextIO | None = None, columns: Columns = USUAL
) -> dict[str, str]:
    """Return the content hash and `group_key` of all images that can be read in a folder or table.

    More than `scan` lists: also images that have several labels, or lie in no class folder. There
    may be none in a folder. Empty files are left out.

    Args:
        data: as for `scan`.
        stdin: as for `scan`.
        columns: as for `scan`.

    Raises:
        UsageError: `data` does not exist.
        DataError: it may not be read, or is malformed.
    """
    if is_folder(place(data)):
        hashes = set(content_hashes(find_images([data]))) - {EMPTY}
        return {key: "" for key in hashes if isinstance(key, str)}
    found = find_entries(data, stdin, columns)
    hashed, unreadable = _hash_all(found.entries, None)
    lost = _lost(found, [skip.path for skip in unreadable if skip.reason == MISSING])
    _require_found(lost)
    if lost is not None:
        log.warning("%s: %s", data, lost.to_text())
    return {key: group_key(entry.group) for entry, key in hashed}


def _lost(found: Found, missing: Collection[str]) -> Lost | None:
    """What is lost of a table; None of a folder, or where all is there."""
    if found.folder is None or not missing:
        return None
    paths = frozenset(missing)
    rows = [entry for entry in found.entries if str(entry.path) in paths]
    return Lost.of(rows, len(found.entries), found.folder)


def _require_found(lost: Lost | None) -> None:
    if lost is not None and lost.all_rows:
        raise DataError(f"Expected paths of files. Received: {lost.to_text()}")


def _hash_all(
    entries: tuple[Entry, ...], progress: Progress | None
) -> tuple[list[tuple[Entry, str]], list[Skipped]]:
    """Return (entry, hash) of what can be read, sorted, and what cannot."""
    ordered = sorted(entries, key=lambda entry: (entry.label, entry.given))
    hashed: list[tuple[Entry, str]] = []
    unreadable: list[Skipped] = []
    results = _hashes([entry.path for entry in ordered])
    for done, (entry, result) in enumerate(zip(ordered, results, strict=True), start=1):
        if isinstance(result, BadImage):
            unreadable.append(Skipped(str(entry.path), str(result)))
        elif result == EMPTY:
            unreadable.append(Skipped(str(entry.path), "the file is empty"))
        else:
            hashed.append((entry, result))
        if progress is not None:
            progress(done, len(ordered))
    return hashed, unreadable


def _hashes(paths: Sequence[Place]) -> Iterable[str | BadImage]:
    """Return what `content_hashes` does, at once where no path leads anywhere."""
    if all(map(_is_missing, paths)):
        return [BadImage(MISSING)] * len(paths)
    return content_hashes(paths)


def _is_missing(path: Place) -> bool:
    if isinstance(path, Url):  # asked for once, when it is read
        return False
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _unique(hashed: Iterable[tuple[Entry, str]]) -> tuple[list[LabelledImage], list[Skipped]]:
    """Return one image per content, and all copies of those with several labels."""
    copies: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry, digest in hashed:
        copies[digest].append(entry)
    images: list[LabelledImage] = []
    conflicting: list[Skipped] = []
    for digest, entries in copies.items():
        if len({entry.label for entry in entries}) == 1:
            group = min(filter(None, (entry.group for entry in entries)), default="")
            images.append(
                LabelledImage(entries[0].path, digest, label=entries[0].label, group=group)
            )
        else:
            conflicting.extend(_conflict(entry, entries) for entry in entries)
    return images, conflicting


def _conflict(entry: Entry, entries: list[Entry]) -> Skipped:
    other = next(copy for copy in entries if copy.label != entry.label)
    labels = " and ".join(sorted({repr(copy.label) for copy in entries}))
    return Skipped(
        str(entry.path), f"the same image has the labels {labels}; the other is {other.path}"
    )
