"""The pixels that training reads: decoded once where memory allows, else once an epoch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tlcli import images
from tlcli.config import Progress

Pixels = NDArray[np.uint8]
Load = Callable[[Sequence[str]], Pixels]
"""From content hashes to images (n, S, S, 3)."""

Check = Callable[[], None]
"""Called between batches, where what is done may be broken off."""

IN_MEMORY_BYTES = 1 << 30
"""Decoded images beyond this are decoded again in every epoch."""

_CHUNK = 256
_AHEAD = 3
"""Batches that are decoded before they are needed."""


class Source(Protocol):
    """What steps are given of n images in a fixed order."""

    def __len__(self) -> int: ...

    def batches(self, order: NDArray[np.intp], batch_size: int) -> Iterator[NDArray[Any]]:
        """Yield what stands for the images of `order`, a batch at a time; the last may be less."""
        ...

    def seen_in(self, epoch: int, check: Check) -> "Source":
        """The images as an epoch sees them; epoch 0 is the search for a learning rate."""
        ...


@dataclass(frozen=True, eq=False)
class ImageSource:
    """n images in a fixed order."""

    hashes: tuple[str, ...]
    load: Load
    decoded: Pixels | None
    """(n, S, S, 3) where they fit into memory."""

    @classmethod
    def of(cls, hashes: Sequence[str], load: Load, size: int, progress: Progress) -> Self:
        """Decode what fits into memory.

        Args:
            hashes: of the images.
            load: gives their pixels.
            size: S.
            progress: told the phase "decoding".
        """
        if len(hashes) * size * size * 3 > IN_MEMORY_BYTES:
            return cls(tuple(hashes), load, None)
        decoded = np.empty((len(hashes), size, size, 3), np.uint8)
        for start in range(0, len(hashes), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            decoded[chunk] = load(hashes[chunk])
            progress("decoding", min(start + _CHUNK, len(hashes)), len(hashes))
        return cls(tuple(hashes), load, decoded)

    def __len__(self) -> int:
        return len(self.hashes)

    def seen_in(self, epoch: int, check: Check) -> Self:
        """The same pixels in every epoch; what changes them is part of the step."""
        return self

    def only(self, rows: NDArray[np.intp]) -> Self:
        """Those of some rows, in their order."""
        decoded = None if self.decoded is None else self.decoded[rows]
        return replace(self, hashes=tuple(self.hashes[row] for row in rows), decoded=decoded)

    def batches(self, order: NDArray[np.intp], batch_size: int) -> Iterator[Pixels]:
        """Yield the images of `order`, a batch at a time; the last may be smaller."""
        rows = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        if self.decoded is not None:
            yield from (self.decoded[chosen] for chosen in rows)
            return
        yield from images.map_ahead(self._loaded, rows, workers=1, ahead=_AHEAD)

    def _loaded(self, chosen: NDArray[np.intp]) -> Pixels:
        return self.load([self.hashes[row] for row in chosen])
