"""The feature cache of one space: immutable segments, written, found and merged."""

import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import cache, files
from tlcli.errors import StorageError
from tlcli.features import segments
from tlcli.features.kinds import Kind
from tlcli.features.segments import Keys, Segment
from tlcli.features.vectors import Block, Float32, InMemory, Vectors
from tlcli.images import Square
from tlcli.strict import Malformed

log = logging.getLogger(__name__)

SEGMENT_BYTES = 16 * 2**20
"""A segment is full with so many bytes of vectors."""

SEGMENT_SECONDS = 30.0
"""New vectors are saved at least this often, so that a kill costs no more."""

MOST_SMALL = 32
"""More segments of less than half of SEGMENT_BYTES are merged."""

DESCRIPTION = "space.json"


@dataclass(frozen=True)
class Space:
    """What decides the bits of a feature vector, besides the image."""

    fingerprint: str
    width: int
    backbone: str
    """A name for people, no part of the key."""
    kind: Kind
    square: Square
    """What images are drawn to; the fingerprint covers it."""

    @property
    def image_size(self) -> int:
        """S."""
        return self.square.size

    @property
    def facts(self) -> dict[str, Any]:
        """What the space is, for people."""
        described = {name: getattr(self, name) for name in ("fingerprint", "width", "backbone")}
        return (
            described | asdict(self.kind) | {"image_size": self.image_size, **self.square.choices}
        )

    @property
    def cache_key(self) -> str:
        """Name of the cache folder of this space."""
        size, kind = str(self.image_size), self.kind
        facts = (self.fingerprint, size, kind.arithmetic, kind.decoder)
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


class Index:
    """Where the vector of each wanted image is, as far as it is known."""

    def __init__(self, hashes: Sequence[str], width: int) -> None:
        self._width = width
        self._keys = segments.keys_of(hashes)
        self._order = np.argsort(self._keys)
        self._block = np.full(len(hashes), -1, np.int32)
        self._row = np.zeros(len(hashes), np.int32)
        self._blocks: dict[int, Block] = {}
        self._added = 0

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n,) which of the images have a vector."""
        return self._block >= 0

    def add(self, keys: Keys, rows: Block) -> bool:
        """Learn that `rows` holds the vectors of `keys`; whether one of them is wanted.

        Where a vector is known already, the new place replaces the old one.
        """
        if not len(self._keys):
            return False
        place = np.searchsorted(self._keys, keys, sorter=self._order)
        place = self._order[np.minimum(place, len(self._keys) - 1)]
        wanted = np.flatnonzero(self._keys[place] == keys)
        self._block[place[wanted]] = self._added
        self._row[place[wanted]] = wanted
        self._blocks[self._added] = rows
        self._blocks = {n: self._blocks[n] for n in np.unique(self._block).tolist() if n >= 0}
        self._added += 1
        return len(wanted) > 0

    def vectors(self) -> Vectors:
        """The vectors of the images that are known, in their order."""
        numbers, block = np.unique(self._block[self.known], return_inverse=True)
        blocks = tuple(self._blocks[number] for number in numbers.tolist())
        return Vectors(self._width, blocks, block.astype(np.int32), self._row[self.known])


class Miscounted(AssertionError):
    """An engine gave more or fewer vectors than it was given images: none can be trusted."""


class Fresh:
    """Vectors on their way into a segment."""

    def __init__(self, width: int) -> None:
        self._most = max(SEGMENT_BYTES // (4 * width), 1)
        self._vectors = np.empty((self._most, width), np.float32)
        self._hashes: list[str] = []
        self._since = time.monotonic()

    def add(self, sha256: str, vector: Float32) -> None:
        """Take in the vector (D,) of an image."""
        self._vectors[len(self._hashes)] = vector
        self._hashes.append(sha256)

    @property
    def due(self) -> bool:
        """Whether it is time for a segment."""
        full = len(self._hashes) == self._most
        return full or time.monotonic() - self._since >= SEGMENT_SECONDS

    def content(self) -> tuple[Keys, Float32]:
        """Keys (n,) and vectors (n, D)."""
        return segments.keys_of(self._hashes), self._vectors[: len(self._hashes)]


@dataclass(frozen=True, eq=False)
class Store:
    """The segments of a space on disk; those that were opened once stay open.

    Nothing that goes wrong with the folder is an error: there is one warning for each segment that
    is damaged and one for the folder, and what cannot be kept on disk is kept in memory.
    """

    space: Space
    _held: dict[Path, Segment] = field(default_factory=dict)
    _warned: set[Path] = field(default_factory=set)
    _lock: RLock = field(default_factory=RLock)
    """Held while segments are opened, written and merged; not while vectors are computed."""

    @property
    def folder(self) -> Path:
        """Where the segments are."""
        return cache.folder() / "features" / self.space.cache_key

    def load(self, index: Index) -> None:
        """Find the vectors that are wanted.

        Other processes merge segments meanwhile: one that has vanished is in a new one, so the
        folder is listed until it shows nothing new.
        """
        with self._lock:
            looked_at = set(self._held)
            for path in sorted(looked_at):
                self._learn(index, path)
            while not index.known.all() and (new := set(self._paths()) - looked_at):
                for path in sorted(new):
                    self._learn(index, path)
                looked_at |= new

    def store(self, index: Index, computed: Iterator[tuple[str, Float32]]) -> None:
        """Take in (content hash, vector) pairs, a segment at a time.

        What was computed before an interruption is saved; nothing is where the pairs turn out not
        to belong together.
        """
        cache.sweep()
        fresh, saved = Fresh(self.space.width), []
        try:
            for sha256, vector in computed:
                fresh.add(sha256, vector)
                if fresh.due:
                    saved.append(self._save(index, fresh))
                    fresh = Fresh(self.space.width)
        except Miscounted:
            self._drop(saved)
            raise
        except BaseException:
            self._save(index, fresh)
            raise
        self._save(index, fresh)
        self._merge(index)

    def _drop(self, paths: Sequence[Path | None]) -> None:
        """Remove segments."""
        for path in filter(None, paths):
            self._held.pop(path, None)
            with contextlib.suppress(OSError):
                path.unlink()

    def _paths(self) -> list[Path]:
        try:
            return sorted(self.folder.glob("[!.]*.h5"))
        except OSError as error:
            self._warn(self.folder, f"cannot be read ({error.strerror})")
            return []

    def _learn(self, index: Index, path: Path) -> None:
        segment = self._open(path)
        if segment and index.add(segment.keys, segment.rows):
            cache.touch(path)

    def _open(self, path: Path) -> Segment | None:
        """A segment; None, with a warning where it is there, if it cannot be used."""
        if path in self._held:
            return self._held[path]
        try:
            self._held[path] = segments.opened(path, self.space.width)
            return self._held[path]
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(path, f"cannot be read ({error.strerror or error}); it is done without")
        except Malformed as error:
            self._warn(path, f"is damaged ({error}); its features are computed again")
            with contextlib.suppress(OSError):
                path.unlink()
        return None

    def _save(self, index: Index, fresh: Fresh) -> Path | None:
        """Write a segment, and read from it from now on; keep it in memory where that fails."""
        keys, vectors = fresh.content()
        if not len(keys):
            return None
        with self._lock:
            path = self._write(keys, vectors)
            segment = path and self._open(path)
            index.add(keys, segment.rows if segment else InMemory(vectors.copy()))
            return path

    def _write(self, keys: Keys, vectors: Float32) -> Path | None:
        """The new segment, durable; None, with a warning, where it cannot be saved."""
        content = segments.pack(keys, vectors)
        path = self.folder / segments.name_of(content)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with files.written(path) as stream:
                stream.write(content)
        except (OSError, StorageError) as error:
            if path not in self._warned:
                self._warn(self.folder, f"cannot be written ({error.__cause__ or error})")
            return None
        self._describe()
        return path

    def _describe(self) -> None:
        """Say once, for people, what the folder is for."""
        path = self.folder / DESCRIPTION
        if not path.exists():
            with contextlib.suppress(OSError, StorageError):
                files.write_json(path, self.space.facts)

    def _merge(self, index: Index) -> None:
        """Make full segments of the small ones when there are too many.

        New ones are written before old ones are deleted, so that a kill loses nothing. Whoever
        does the same beside us writes the same files, or deletes what its own files hold.
        """
        small = [entry.path for entry in cache.segments(self.folder) if _is_small(entry)]
        if len(small) > MOST_SMALL:
            with self._lock:
                self._unite(index, small)

    def _unite(self, index: Index, small: Sequence[Path]) -> None:
        old = [segment for path in small if (segment := self._open(path))]
        if len(old) <= MOST_SMALL:
            return
        keys, vectors = segments.united(old, self.space.width)
        rows = max(SEGMENT_BYTES // (4 * self.space.width), 1)
        new = []
        for start in range(0, len(keys), rows):
            part = slice(start, start + rows)
            path = self._write(keys[part], vectors[part])
            if path is None:
                return
            self._learn(index, path)
            new.append(path)
        for segment in old:
            if segment.path not in new:
                self._held.pop(segment.path, None)
                with contextlib.suppress(OSError):
                    segment.path.unlink()

    def _warn(self, path: Path, problem: str) -> None:
        if path not in self._warned:
            self._warned.add(path)
            log.warning("feature cache: %s %s", path, problem)


def _is_small(entry: cache.Entry) -> bool:
    return entry.bytes < SEGMENT_BYTES / 2
