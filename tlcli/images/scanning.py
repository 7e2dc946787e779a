"""DATA → Listing: every image named, hashed, and counted once; nothing is decoded."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TextIO

from tlcli.errors import BadImage, DataError
from tlcli.images.hashing import content_hashes
from tlcli.images.sources import Entry, find_entries, find_images, growing, image_batches
from tlcli.images.walking import IMAGE_SUFFIXES

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
    "reject_bad",
    "scan",
]

Progress = Callable[[int, int], None]

EMPTY = sha256().hexdigest()


@dataclass(frozen=True)
class ImageFile:
    """One image, and the SHA-256 of its bytes in hexadecimal."""

    path: Path
    sha256: str
    content: bytes | None = field(default=None, repr=False, compare=False)
    """Its bytes, where it is on no disk; the path says nothing then."""


@dataclass(frozen=True)
class LabelledImage(ImageFile):
    """An image and its class."""

    label: str = field(kw_only=True)


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
    ignored: int = 0
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
    def paths(self) -> tuple[Path, ...]:
        """The file of each image."""
        return tuple(image.path for image in self.images)

    @property
    def total(self) -> int:
        """Images and skipped files together: what a share of bad files refers to."""
        return len(self.images) + len(self.skipped)


def scan(
    data: str | Path, *, stdin: TextIO | None = None, progress: Progress | None = None
) -> Listing:
    """Return the labelled images of a folder of class folders, a table, or standard input.

    Args:
        data: a folder, a .csv/.tsv/.txt table with the columns path,label, or "-".
        stdin: what "-" reads, by default `sys.stdin`; its header line is optional.
        progress: called with (files hashed, files in all) after each.

    Raises:
        UsageError: `data` does not exist.
        DataError: it holds no labelled images, may not be read, or is malformed.
        DividedData: it is a dataset that comes in parts like train and test.
    """
    found = find_entries(data, stdin)
    hashed, unreadable = _hash_all(found.entries, progress)
    images, conflicting = _unique(hashed)
    stray = [Skipped(str(path), "it lies in no class folder") for path in found.stray]
    return Listing(
        images=tuple(images),
        skipped=tuple(sorted([*stray, *unreadable, *conflicting], key=lambda skip: skip.path)),
        duplicates=len(hashed) - len(images) - len(conflicting),
        ignored=found.ignored,
        empty_classes=found.empty_classes,
        conflicts=len(conflicting),
        named_classes=tuple(
            sorted({entry.label for entry in found.entries}.union(found.empty_classes))
        ),
        parts=found.parts,
    )


def contents(data: str | Path, *, stdin: TextIO | None = None) -> frozenset[str]:
    """Return the content hashes of all images that can be read in a folder or table.

    More than `scan` lists: also images that have several labels, or lie in no class folder. There
    may be none in a folder. Empty files are left out.

    Args:
        data: as for `scan`.
        stdin: as for `scan`.

    Raises:
        UsageError: `data` does not exist.
        DataError: it may not be read, or is malformed.
    """
    if Path(data).is_dir():
        paths = list(find_images([data]))
    else:
        paths = [entry.path for entry in find_entries(data, stdin).entries]
    return frozenset(key for key in content_hashes(paths) if isinstance(key, str)) - {EMPTY}


def reject_bad(listing_total: int, skipped: Sequence[Skipped], max_bad: float) -> None:
    """Refuse data of which too large a share is bad.

    Args:
        listing_total: images and skipped files together, see `Listing.total`.
        skipped: all bad files.
        max_bad: largest acceptable share, 0 to 1.

    Raises:
        DataError: more than `max_bad` of the files are bad.
    """
    share = len(skipped) / max(listing_total, len(skipped), 1)
    if share <= max_bad:
        return
    first = skipped[0]
    raise DataError(
        f"Expected at most {max_bad:.2%} bad images. Received: {len(skipped)} of {listing_total} "
        f"({share:.2%}), the first of them {first.path}: {first.reason}. Repair or remove them, "
        "or raise the limit with --max-bad SHARE."
    )


def _hash_all(
    entries: tuple[Entry, ...], progress: Progress | None
) -> tuple[list[tuple[Entry, str]], list[Skipped]]:
    """Return (entry, hash) of what can be read, sorted, and what cannot."""
    ordered = sorted(entries, key=lambda entry: (entry.label, entry.given))
    hashed: list[tuple[Entry, str]] = []
    unreadable: list[Skipped] = []
    results = content_hashes(entry.path for entry in ordered)
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


def _unique(hashed: Iterable[tuple[Entry, str]]) -> tuple[list[LabelledImage], list[Skipped]]:
    """Return one image per content, and all copies of those with several labels."""
    copies: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry, digest in hashed:
        copies[digest].append(entry)
    images: list[LabelledImage] = []
    conflicting: list[Skipped] = []
    for digest, entries in copies.items():
        if len({entry.label for entry in entries}) == 1:
            images.append(LabelledImage(entries[0].path, digest, label=entries[0].label))
        else:
            conflicting.extend(_conflict(entry, entries) for entry in entries)
    return images, conflicting


def _conflict(entry: Entry, entries: list[Entry]) -> Skipped:
    other = next(copy for copy in entries if copy.label != entry.label)
    labels = " and ".join(sorted({repr(copy.label) for copy in entries}))
    return Skipped(
        str(entry.path), f"the same image has the labels {labels}; the other is {other.path}"
    )
