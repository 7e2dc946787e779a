"""The right to change an index; what it writes is there for all readers, or not at all."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import files, runs
from tlcli.features import segments
from tlcli.retrieval.descriptors import Descriptor
from tlcli.retrieval.records import FORMAT, Entry, Records
from tlcli.retrieval.store import (
    FOLDER,
    RECORDS,
    Index,
    Space,
    begun_state,
    missing_file,
    require_format,
    require_own_records,
    state_of,
    without_images,
)

Image = tuple[str, str, str]
"""(sha256, class, path) of an image."""

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]

SEGMENT_ROWS = 1 << 16
"""Of the largest segment."""

MOST_FILES = 64
"""With more segments than these, the next writer makes few of them."""


@dataclass(frozen=True, eq=False)
class IndexWriter:
    """The right to change an index; exists only while its lock is held."""

    folder: Path
    records: Records

    @property
    def index(self) -> Index | None:
        """As it is now; None where nothing was added yet."""
        return state_of(self.folder, self.records) if self.records.about() else None

    @property
    def begun(self) -> Index | None:
        """The same without rows, which takes no longer for many images than for few."""
        return begun_state(self.folder, self.records) if self.records.about() else None

    def require_begun(self) -> None:
        """Raise UsageError where nothing was ever added."""
        if not self.records.about():
            raise without_images(self.folder)

    def require_usable(self) -> None:
        """Raise RunError where this program may not write, or a file is missing; none is read."""
        facts = self.records.about()
        require_format(self.folder, facts)
        names = [name for _, name, _ in self.records.files()]
        for name in filter(None, [facts.get("matrix"), *names]):
            if not (self.folder / name).exists():
                raise missing_file(self.folder, self.folder / name)

    def begin(self, space: Space, descriptor: Descriptor) -> None:
        """Say what an index without images will hold."""
        facts = {
            "format": str(FORMAT),
            "fingerprint": space.fingerprint,
            "arithmetic": space.kind.arithmetic,
            "decoder": space.kind.decoder,
            "width": str(space.width),
            "descriptor": descriptor.name,
        }
        if descriptor.matrix is not None and descriptor.centre is not None:
            arrays = {"centre": descriptor.centre, "matrix": descriptor.matrix}
            facts["matrix"] = self._write("descriptor-", ".h5", files.pack_arrays(arrays, {}))
        with self.records.transaction():
            self.records.set_about(facts)

    def add(self, images: Sequence[Image], descriptors: Iterable[Float32]) -> None:
        """Add images that the index does not hold; their descriptors (n, M) come in blocks."""
        written = self._segments([sha256 for sha256, _, _ in images], descriptors)
        named = iter(images)
        with self.records.transaction():
            for name, count in written:
                number = self.records.add_file(name, count)
                self.records.add((*next(named), number, row) for row in range(count))

    def remove(self, entries: Sequence[Entry]) -> None:
        """Take images away."""
        with self.records.transaction():
            self.records.remove(entries)

    def compact(self) -> None:
        """Write the rows of images anew, in few segments and without those that were removed."""
        index = self.index
        assert index is not None
        entries = self.records.entries()
        written = self._segments([entry.sha256 for entry in entries], index.live_blocks())
        ids = iter([entry.id for entry in entries])
        with self.records.transaction():
            kept = {self.records.add_file(name, count): count for name, count in written}
            self.records.move(
                (number, row, next(ids)) for number, count in kept.items() for row in range(count)
            )
            self.records.drop_files(rows.id for rows in index.rows if rows.id not in kept)
        self.sweep()

    def publish(self, content: bytes, facts: dict[str, str]) -> None:
        """Make an approximate index the current one."""
        name = self._write("approximate-", "", content)
        with self.records.transaction():
            self.records.set_about(facts | {"approximate": name})

    def sweep(self) -> None:
        """Remove files that the records do not name, and what a killed writer was writing."""
        facts = self.records.about()
        named = {name for _, name, _ in self.records.files()}
        named |= {facts.get("matrix", ""), facts.get("approximate", ""), "lock"}
        for path in self.folder.iterdir():
            if path.name not in named and not path.name.startswith(RECORDS):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _segments(
        self, hashes: Sequence[str], descriptors: Iterable[Float32]
    ) -> list[tuple[str, int]]:
        """Write rows; the name and the length of each segment."""
        written, start = [], 0
        for rows in _full(descriptors):
            keys = segments.keys_of(hashes[start : start + len(rows)])
            written.append((self._write("", ".h5", segments.pack(keys, rows)), len(rows)))
            start += len(rows)
        return written

    def _write(self, prefix: str, suffix: str, content: bytes) -> str:
        name = f"{prefix}{hashlib.sha256(content).hexdigest()}{suffix}"
        if not (self.folder / name).exists():
            with files.written(self.folder / name) as stream:
                stream.write(content)
        return name


def _full(descriptors: Iterable[Float32]) -> Iterator[Float16]:
    """Blocks of rows as those of segments: as few as there can be."""
    waiting: list[Float16] = []
    for block in descriptors:
        waiting.append(block.astype(np.float16))
        if sum(map(len, waiting)) >= SEGMENT_ROWS:
            yield np.concatenate(waiting)
            waiting = []
    if any(map(len, waiting)):
        yield np.concatenate(waiting)


@contextmanager
def writing(run: Path, wait_seconds: float) -> Iterator[IndexWriter]:
    """Lock the index of a run for writing; it is made where there is none.

    Raises:
        RunLocked: another process holds it for longer than `wait_seconds`.
        RunError: it is newer than this program, or a file of it is missing.
        StorageError: it cannot be made.
    """
    folder = run / FOLDER
    require_own_records(folder)
    with files.saving(folder):
        folder.mkdir(exist_ok=True)
        files.sync(run)
    with runs.locked(folder, wait_seconds), closing(Records(folder / RECORDS, writes=True)) as here:
        writer = IndexWriter(folder, here)
        writer.require_usable()
        writer.sweep()
        yield writer
