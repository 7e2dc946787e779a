"""Images to learn from, and those that training is validated on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tlcli import images, memory
from tlcli.config import Progress
from tlcli.training import Examples, ImageSource


@dataclass(frozen=True, eq=False)
class Split:
    """Images to learn from and held-out ones, decoded where memory allows."""

    learned: Examples
    held_out: Examples
    digest: str
    """See `images.digest_of`."""
    load: memory.Pixels

    @property
    def described(self) -> str:
        """How many images there are, and which."""
        counts = f"{len(self.learned.source)}+{len(self.held_out.source)}"
        return f"{counts}, sha256 {self.digest[:16]}"

    def pixels(self, hashes: Sequence[str]) -> NDArray[np.uint8]:
        """The images (n, S, S, 3) with these content hashes; decoded ones are not read again."""
        places = self._places
        if not places.keys() >= set(hashes):
            return self.load(hashes)
        return np.stack([decoded[row] for decoded, row in map(places.__getitem__, hashes)])

    @cached_property
    def _places(self) -> dict[str, tuple[NDArray[np.uint8], int]]:
        return {
            key: (part.source.decoded, row)
            for part in (self.learned, self.held_out)
            if part.source.decoded is not None
            for row, key in enumerate(part.source.hashes)
        }


def split_images(
    hashes: Sequence[str],
    labels: Sequence[str],
    classes: Sequence[str],
    load: memory.Pixels,
    size: int,
    progress: Progress,
    groups: Sequence[str] = (),
) -> Split:
    """Hold out a share of the images that their content hash chooses.

    Args:
        hashes: of the images; in their order nothing depends on.
        labels: their classes; without classes, any text.
        classes: in the order of the head's columns; empty without labels.
        load: gives their pixels.
        size: of the pixels.
        progress: told the phase "decoding".
        groups: as for `images.holdout`.
    """
    digest = images.digest_of(hashes, labels)
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    hashes, labels = [hashes[row] for row in order], [labels[row] for row in order]
    groups = [groups[row] for row in order] if groups else ()
    column = {name: place for place, name in enumerate(classes)}
    columns = np.array([column.get(label, 0) for label in labels], np.int64)
    held_out = images.holdout(hashes, labels, images.HELD_OUT, groups)

    def part(mask: NDArray[np.bool_]) -> Examples:
        chosen = [key for key, wanted in zip(hashes, mask, strict=True) if wanted]
        return Examples(ImageSource.of(chosen, load, size, progress), columns[mask])

    return Split(part(~held_out), part(held_out), digest, load)
