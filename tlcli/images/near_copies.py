"""Images that look alike though their bytes differ: copies in other sizes, bursts, film."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlcli.images.scanning import LabelledImage

DISTANCE = 6
"""Bits of 64 in which near-copies differ at most. Of pairs of slightly cropped, brighter or darker
copies 92 % differ in no more; of the 6.9 million pairs of Caltech-101 (51 classes) 92 do."""

BANDS = 8
"""Bytes of a hash: two that differ in fewer bits have one in common."""

PLAIN = 4.0
"""Standard deviation of grey values below which an image has nothing to be recognised by."""

SHOWN = 20
"""Sets that a report lists."""

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class NearCopies:
    """Sets of images that look alike and are not in one group."""

    images: int
    """That are in a set."""
    sets: tuple[tuple[LabelledImage, ...], ...]
    """The largest first."""

    @property
    def across_classes(self) -> tuple[tuple[LabelledImage, ...], ...]:
        """The sets whose images have several labels."""
        return tuple(found for found in self.sets if len({image.label for image in found}) > 1)

    @property
    def hints(self) -> list[str]:
        """Plain sentences; none where there are no sets."""
        sentences = []
        if self.sets:
            first, second, *_ = self.sets[0]
            sentences.append(
                f"{self.images} images are near-copies of others, in {len(self.sets)} sets, as "
                f"{first.path} and {second.path}. Where one is learned and another tested, the "
                "figures look better than they are: list them in a table with a column `group`."
            )
        if several := self.across_classes:
            first, second = _unlike(several[0])
            sentences.append(
                f"{len(several)} of these sets are of several classes, as {first.path} "
                f"({first.label!r}) and {second.path} ({second.label!r})."
            )
        return sentences

    def to_json(self) -> dict[str, Any]:
        """The figures, and the first sets."""
        return {
            "images": self.images,
            "sets": len(self.sets),
            "sets_across_classes": len(self.across_classes),
            "largest": [[str(image.path) for image in found] for found in self.sets[:SHOWN]],
        }


NO_COPIES = NearCopies(0, ())


def perceptual(pixels: NDArray[np.uint8]) -> int | None:
    """Return the perceptual hash (64 bits) of an image (S, S, 3); None of one that is plain.

    Source: the DCT hash of Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", as in ImageHash.
    """
    import imagehash

    if pixels.mean(axis=2).std() < PLAIN:
        return None
    bits = imagehash.phash(Image.fromarray(pixels)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_copies(images: Sequence[LabelledImage], hashes: Sequence[int | None]) -> NearCopies:
    """Return the sets of images that are linked by pairs of near-copies.

    A set of images that are all in one group is left out: they stay together as it is.

    Args:
        images: n of different content.
        hashes: n perceptual ones; images with None are in no set.
    """
    known = [place for place, value in enumerate(hashes) if value is not None]
    values = np.array([hashes[place] for place in known], np.uint64)
    found = [tuple(images[known[i]] for i in members) for members in _linked(values)]
    apart = [members for members in found if not _together(members)]
    apart.sort(key=lambda members: (-len(members), str(members[0].path)))
    return NearCopies(sum(map(len, apart)), tuple(apart))


def _together(members: Sequence[LabelledImage]) -> bool:
    return bool(members[0].group) and len({image.group for image in members}) == 1


def _unlike(members: Sequence[LabelledImage]) -> tuple[LabelledImage, LabelledImage]:
    first = members[0]
    return first, next(image for image in members if image.label != first.label)


def _linked(hashes: Hashes) -> list[list[int]]:
    """Return the sets of at least two places that pairs of near hashes link."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    distinct, place = np.unique(hashes, return_inverse=True)
    rows, columns = _near(distinct)
    links = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(distinct),) * 2)
    _, component = connected_components(links, directed=False)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for i, number in enumerate(component[place]):
        members[int(number)].append(i)
    return [found for found in members.values() if len(found) > 1]


def _near(distinct: Hashes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places of all pairs of hashes in at most `DISTANCE` different bits."""
    rows, columns = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
    for band in range(BANDS):
        byte = (distinct >> np.uint64(8 * band)) & np.uint64(255)
        order = np.argsort(byte, kind="stable")
        ends = np.searchsorted(byte[order], np.arange(256), side="right")
        for bucket in np.split(order, ends[:-1]):
            for i, one in enumerate(bucket[:-1]):
                others = bucket[i + 1 :]
                near = others[np.bitwise_count(distinct[others] ^ distinct[one]) <= DISTANCE]
                rows.append(np.full(len(near), one))
                columns.append(near)
    return np.concatenate(rows), np.concatenate(columns)
