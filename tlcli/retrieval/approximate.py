"""faiss beside the rows of a large index: which images are probably near.

An inverted file (Jégou, Douze & Schmid 2011, "Product quantization for nearest neighbor search",
section IV) of float16 vectors: k-means cells, of which a query looks into some. The structure is
disposable: it is built from the rows, named by the hash of its bytes, and every candidate is
compared exactly.
"""

import hashlib
import importlib.util
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import strict
from tlcli.retrieval.records import Records
from tlcli.retrieval.rows import Rows
from tlcli.retrieval.store import Index

log = logging.getLogger(__name__)

Float32 = NDArray[np.float32]

Place = tuple[int, int]
"""(segment, row)"""

EXACT_UNTIL = 200_000
"""Images that are compared one by one; with more, an approximate index pays."""

MOST_STALE = 0.2
"""Share of images removed from, or added beside, the approximate index until it is built anew."""

NEIGHBOURS = 10
_SPARE = 2
"""Candidates for one that is wanted: some are of removed images, or less near than they seem."""


@dataclass(frozen=True, eq=False)
class Approximate:
    """A structure that covers the images up to an id."""

    index: Index
    structure: Any
    last: int
    """The largest id that it may know."""

    def candidates(self, queries: Float32, count: int) -> list[set[Place]]:
        """For each query (n, M), the places of images that are probably the `count` nearest."""
        _, found = self.structure.search(queries, _SPARE * count + NEIGHBOURS)
        return [self.index.records.places(row[row >= 0].tolist()) for row in found]

    @cached_property
    def uncovered(self) -> list[Rows]:
        """The segments with images that it does not know."""
        fresh = self.index.records.files_after(self.last)
        return [rows for rows in self.index.rows if rows.id in fresh]

    @property
    def stale(self) -> float:
        """Share of images that were removed from it, or added since, from 0 to 1."""
        return _changed(self.index.records, int(self.structure.ntotal), self.last)


def is_fresh(records: Records) -> bool:
    """Whether there is an approximate index that knows enough; it is not opened."""
    facts = records.about()
    if not {"approximate", "approximate_images", "approximate_last"} <= facts.keys():
        return False
    if not (records.path.parent / facts["approximate"]).exists():
        return False
    built, last = int(facts["approximate_images"]), int(facts["approximate_last"])
    return _changed(records, built, last) <= MOST_STALE


def _changed(records: Records, built: int, last: int) -> float:
    known = records.count_until(last)
    return min((built - known + records.count() - known) / max(built, 1), 1.0)


def available() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def load(index: Index) -> Approximate | None:
    """The approximate index, if there is one, and it is intact; else images are compared."""
    images = len(index)
    name = index.facts.get("approximate")
    if name is None or not available():
        if images > EXACT_UNTIL:
            log.warning("%s", _advice(images))
        return None
    structure = _structure(index, index.folder / name)
    if structure is None:
        log.warning("%s is damaged; `tlcli index optimize` makes it anew", index.folder / name)
        return None
    return Approximate(index, structure, int(index.facts["approximate_last"]))


def _structure(index: Index, path: Path) -> Any:
    """What faiss makes of a file; None where that is damaged, or of other descriptors."""
    import faiss

    try:
        with strict.opened(path) as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() not in path.name:
                return None
            # The file that was compared, which has as many bytes as memory may have left.
            structure: Any = faiss.read_index(f"/dev/fd/{stream.fileno()}")
        structure.nprobe = int(index.facts["approximate_cells"])
    except (OSError, RuntimeError, KeyError):
        return None
    fits = structure.d == index.descriptor.width and "approximate_last" in index.facts
    return structure if fits else None


def _advice(images: int) -> str:
    how = "`tlcli index optimize`" if available() else "`pip install 'tlcli[index]'`, then optimize"
    return f"each query is compared with all {images} images; {how} makes an approximate index"
