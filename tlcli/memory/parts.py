"""The images or features that a round keeps: immutable HDF5 files, shared between rounds.

    features-0001.h5    with `features`     keys (n, 32) uint8, vectors (n, D) float32
    exemplars-0001.h5   with `exemplars`    the same, and pixels (n, S, S, 3) uint8

`memory.h5` says what the rows mean, and its format is theirs. A file all of whose rows are still
kept is linked into the next round and never written again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tlcli import files, strict
from tlcli.features import Examples, Vectors, segments
from tlcli.features.segments import Keys, Segment
from tlcli.features.vectors import Float32, OnDisk
from tlcli.memory.table import SETTINGS
from tlcli.runs import Round
from tlcli.strict import Malformed
from tlcli.strict.arrays import array_file

FILE_BYTES = 64 * 2**20
"""A file is full with so many bytes of vectors and pixels."""

MOST_FILES = 32
"""With more files than these, those that are less than half full become one."""

KINDS = tuple(name for name, row in SETTINGS.items() if row.rows)
"""The settings with files of their own, whose names begin with them."""

_NAME = re.compile(rf"({'|'.join(KINDS)})-[0-9]{{4,}}\.h5")

Images = NDArray[np.uint8]
"""(n, S, S, 3), or one of them (S, S, 3)."""


@dataclass(frozen=True, eq=False)
class Part:
    """A file that was found intact, and is held open."""

    segment: Segment
    """Keys and vectors."""
    pixels: OnDisk | None
    """None with `features`."""
    image_size: int
    """S; 0 with `features`."""

    @property
    def keys(self) -> Keys:
        """Of its images."""
        return self.segment.keys


def byte_rows(hashes: Sequence[str]) -> NDArray[np.uint8]:
    """(n, 32) the bytes of content hashes in hexadecimal."""
    return segments.byte_rows(segments.keys_of(hashes))


def hashes_of(rows: NDArray[np.uint8]) -> tuple[str, ...]:
    """The inverse of `byte_rows`."""
    return segments.hashes_of(segments.keys_from(rows))


def kind_of(name: str) -> str | None:
    """The setting whose rows a file holds, from its name; None for other files."""
    found = _NAME.fullmatch(name)
    return found and found[1]


def opened(entry: Round, setting: str, width: int) -> tuple[Part, ...]:
    """The files of a round, once all their bytes were compared with its manifest.

    Raises:
        RunError: one is damaged or missing.
        Malformed: the files do not fit together, or belong to another setting.
    """
    names = [name for name in sorted(entry.manifest.files) if kind_of(name)]
    other = [name for name in names if kind_of(name) != setting]
    if other:
        raise Malformed(f"{other[0]} does not belong to the memory {setting!r}")
    found = tuple(_opened(entry.file(name), setting, width) for name in names)
    if len({part.image_size for part in found}) > 1:
        raise Malformed("its exemplars differ in size")
    return found


def _opened(path: Path, setting: str, width: int) -> Part:
    with files.parsing(path), strict.opened(path) as stream, array_file(stream) as file:
        rows, pixels, size = segments.read(path, stream, file, width), None, 0
        if SETTINGS[setting].exemplars:
            count = len(rows.keys)
            size = file.place("pixels", "|u1", (count, None, None, 3)).shape[1]
            found = file.place("pixels", "|u1", (count, size, size, 3))
            pixels = OnDisk(path, stream.fileno(), found.offset)
    return Part(rows, pixels, size)


def united(parts: Sequence[Part], width: int) -> tuple[Keys, Vectors]:
    """The vectors of all parts in the order of their keys, unread."""
    if not parts:
        return segments.keys_of([]), Vectors.of(np.empty((0, width), np.float32))
    return segments.united([part.segment for part in parts], width)


@dataclass(frozen=True, eq=False)
class Sources:
    """Where rows are before they are saved: the files of a round, and pixels in memory."""

    parts: tuple[Part, ...] = ()
    fresh: Mapping[str, Images] = field(default_factory=dict)
    """Content hash → pixels (S, S, 3)."""

    @cached_property
    def _places(self) -> dict[str, tuple[OnDisk, int, int]]:
        """Content hash → the file with its pixels, the row, and S."""
        return {
            sha256: (part.pixels, row, part.image_size)
            for part in self.parts
            if part.pixels
            for row, sha256 in enumerate(segments.hashes_of(part.keys))
        }

    def without_pixels(self, hashes: Sequence[str]) -> list[str]:
        """Those of the images whose pixels are not here."""
        return [name for name in hashes if name not in self.fresh and name not in self._places]

    def adding(self, hashes: Sequence[str], images: Images) -> "Sources":
        """These and more pixels (n, S, S, 3)."""
        return replace(self, fresh={**self.fresh, **dict(zip(hashes, images, strict=True))})

    def joined(self, other: "Sources") -> "Sources":
        """These and those of another run."""
        return Sources(self.parts + other.parts, {**self.fresh, **other.fresh})

    def only(self, hashes: Sequence[str]) -> "Sources":
        """These without pixels in memory but those of some images."""
        return replace(
            self, fresh={name: self.fresh[name] for name in hashes if name in self.fresh}
        )

    def images(self, hashes: Sequence[str]) -> Images:
        """The pixels (n, S, S, 3) of images that are here.

        Raises:
            KeyError: one is not.
            StorageError: a file cannot be read any more.
        """
        size = self._size(hashes[0]) if hashes else 0
        images = np.empty((len(hashes), size, size, 3), np.uint8)
        for place, sha256 in enumerate(hashes):
            if sha256 in self.fresh:
                images[place] = self.fresh[sha256]
            else:
                pixels, row, _ = self._places[sha256]
                pixels.read(row, cast(Float32, images[place].reshape(1, -1)))
        return images

    def _size(self, sha256: str) -> int:
        """S."""
        return len(self.fresh[sha256]) if sha256 in self.fresh else self._places[sha256][2]


def save(kept: Examples, sources: Sources, setting: str, staged: Path) -> None:
    """Write the rows that are kept into the folder of a round, or link the files that have them.

    Raises:
        StorageError: they cannot be written.
    """
    keys = segments.keys_of(kept.hashes)
    pixels = sources.images if SETTINGS[setting].exemplars else None
    row_bytes = 4 * kept.vectors.shape[1] + (pixels(kept.hashes[:1]).nbytes if pixels else 0)
    full = max(FILE_BYTES // row_bytes, 1)
    linked = _worth_linking(_whole(sources.parts, kept, keys), len(keys), full)
    for number, part in enumerate(linked, 1):
        path = part.segment.path
        with files.parsing(path):
            files.link(path, staged / _name(setting, number))
    rest = _rest(kept, keys, linked)
    for number, start in enumerate(range(0, len(rest), full), len(linked) + 1):
        rows = rest.take(range(start, min(start + full, len(rest))))
        _write(rows, pixels, staged / _name(setting, number))


def _name(setting: str, number: int) -> str:
    return f"{setting}-{number:04d}.h5"


def _whole(parts: Sequence[Part], kept: Examples, keys: Keys) -> list[Part]:
    """The files all of whose rows are kept, as they are there."""
    blocks = set(kept.vectors.blocks) if isinstance(kept.vectors, Vectors) else set()
    ordered = np.sort(keys)
    return [
        part for part in parts if part.segment.rows in blocks and _all_among(part.keys, ordered)
    ]


def _all_among(keys: Keys, ordered: Keys) -> bool:
    if not len(ordered):
        return False
    place = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return bool((ordered[place] == keys).all())


def _worth_linking(whole: list[Part], rows: int, full: int) -> list[Part]:
    """The files to link: all, or only the large ones where there would be too many files."""
    new = ceil((rows - sum(len(part.keys) for part in whole)) / full)
    if len(whole) + new <= MOST_FILES:
        return whole
    return [part for part in whole if 2 * len(part.keys) >= full]


def _rest(kept: Examples, keys: Keys, linked: Sequence[Part]) -> Examples:
    """The rows that no linked file has, class by class, so that a class is in few files."""
    if linked:
        kept = kept.where(~np.isin(keys, np.concatenate([part.keys for part in linked])))
    labels, hashes = kept.labels, kept.hashes
    return kept.take(sorted(range(len(kept)), key=lambda row: (labels[row], hashes[row])))


def _write(rows: Examples, pixels: Callable[[Sequence[str]], Images] | None, path: Path) -> None:
    arrays: files.Arrays = {"keys": byte_rows(rows.hashes), "vectors": rows.vectors[:]}
    if pixels:
        arrays["pixels"] = pixels(rows.hashes)
    files.save_arrays(path, arrays, {})
