"""The folder of an index, opened for reading or for writing.

    RUN/index/
      records.sqlite         what the index holds, see `records`
      <sha256>.h5            segments of descriptors, float16
      descriptor-<sha256>.h5 what makes descriptors of features, where that is more than dividing
      approximate-<sha256>   faiss' structure, see `approximate`; disposable
      lock

Files are immutable and named by their content. They are written first, then a transaction names
them; what no transaction has named is swept by the next writer.
"""

import contextlib
import hashlib
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import files, runs, strict
from tlcli.errors import RunError, UsageError
from tlcli.extractor import Extractor
from tlcli.features import Kind, segments
from tlcli.features.segments import Segment
from tlcli.retrieval.descriptors import Descriptor
from tlcli.retrieval.records import FORMAT, Entry, Records
from tlcli.strict import Malformed
from tlcli.strict.arrays import array_file

Image = tuple[str, str, str]
"""(sha256, class, path) of an image."""

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FOLDER = "index"
RECORDS = "records.sqlite"

SEGMENT_ROWS = 1 << 16
"""Of the largest segment."""

MOST_FILES = 64
"""With more segments than these, the next writer makes few of them."""

READ_ROWS = 1 << 13
"""Rows that are read at once."""

KEPT_BYTES = 2**28
"""Rows of up to this size stay in memory while questions are asked."""


@dataclass(frozen=True)
class Space:
    """What decides the bits of a descriptor besides the image; never mixed in one index."""

    fingerprint: str
    """Of the backbone."""
    kind: Kind
    """Of its features."""
    width: int
    """D, of a feature."""

    @staticmethod
    def of(extractor: Extractor) -> "Space":
        """That of the features which an extractor gives."""
        stored = extractor.stored
        return Space(stored.fingerprint, extractor.kind, stored.width)


@dataclass(frozen=True, eq=False)
class Rows:
    """One segment, and which of its rows belong to images."""

    id: int
    segment: Segment
    width: int
    """M"""
    live: NDArray[np.bool_]
    """(n,)"""

    def blocks(self) -> Iterator[tuple[int, Float32]]:
        """(number of the first row, rows (k, M)), in order; removed rows too."""
        for first in self.starts():
            yield first, self.block(first)

    def starts(self) -> range:
        """The first rows of blocks."""
        return range(0, len(self.live), READ_ROWS)

    def block(self, first: int) -> Float32:
        """The block (k, M) that begins with a row."""
        return self.read(first, min(first + READ_ROWS, len(self.live)))

    def hashes(self) -> tuple[str, ...]:
        """The content hash of each row's image."""
        return segments.hashes_of(self.segment.keys)

    def read(self, first: int, last: int) -> Float32:
        """The rows from `first` to before `last`."""
        into = np.empty((last - first, self.width), np.float16)
        self.segment.rows.read(first, into)
        return into.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _InMemory(Rows):
    """Rows that were read once."""

    vectors: Float32
    """(n, M)"""

    def read(self, first: int, last: int) -> Float32:
        """See `Rows`."""
        return self.vectors[first:last]


def in_memory(rows: Sequence[Rows]) -> Sequence[Rows]:
    """The same rows, read once where that takes no more than `KEPT_BYTES`."""
    if sum(4 * part.width * len(part.live) for part in rows) > KEPT_BYTES:
        return rows
    return [
        _InMemory(part.id, part.segment, part.width, part.live, part.read(0, len(part.live)))
        for part in rows
    ]


@dataclass(frozen=True, eq=False)
class Index:
    """One state of an index; it stays what it is while writers go on."""

    folder: Path
    records: Records
    space: Space
    descriptor: Descriptor
    rows: tuple[Rows, ...]
    facts: dict[str, str] = field(default_factory=dict)

    def require_space(self, space: Space) -> None:
        """Raise RunError unless descriptors of this space may be compared with the index's."""
        if space != self.space:
            _refuse_space(self.folder, self.space, space)

    def live_blocks(self) -> Iterator[Float32]:
        """The descriptors (k, M) of all images, in the order of their places."""
        for rows in self.rows:
            for first, block in rows.blocks():
                yield block[rows.live[first : first + len(block)]]

    def row(self, segment: int, row: int) -> Float64:
        """One descriptor (M,)."""
        (rows,) = (rows for rows in self.rows if rows.id == segment)
        return np.asarray(rows.read(row, row + 1)[0], np.float64)

    def __len__(self) -> int:
        return self.records.count()


def require_index(run: Path) -> None:
    """Raise UsageError unless a run has an index, RunError where it lies elsewhere."""
    _require_own(run / FOLDER)
    if not (run / FOLDER / RECORDS).is_file():
        raise UsageError(
            f"Expected a run with an index. Received: {run} has none. "
            f"Make one with `tlcli index add {run} DATA`."
        )


def _require_own(folder: Path) -> None:
    """Refuse records that lie elsewhere, with what SQLite writes beside them."""
    runs.require_own(folder)
    for suffix in ("", "-wal", "-shm", "-journal"):
        runs.require_own(folder / f"{RECORDS}{suffix}", stat.S_ISREG)


@contextmanager
def open_index(run: Path) -> Iterator[Index]:
    """The index of a run, as it is now.

    Raises:
        UsageError: the run has none, or one without images.
        RunError: it is damaged or newer than this program.
    """
    require_index(run)
    folder = run / FOLDER
    with closing(Records(folder / RECORDS)) as records:
        yield _current(folder, records)


def _current(folder: Path, records: Records, attempts: int = 3) -> Index:
    """Open what the records name; once more where a writer replaced it meanwhile."""
    try:
        records.begin_reading()
        if not records.count():
            raise _empty(folder)
        return _index(folder, records)
    except FileNotFoundError as error:
        records.end_reading()
        if attempts:
            return _current(folder, records, attempts - 1)
        raise _missing(folder, error.filename) from error


def _empty(folder: Path) -> UsageError:
    return UsageError(
        f"Expected an index with images. Received: {folder} holds none. "
        "Add some with `tlcli index add`."
    )


def _missing(folder: Path, path: str | Path) -> RunError:
    return RunError(
        f"Expected an intact index. Received: {path} is missing. "
        f"Remove {folder}, and add the images again."
    )


def _index(folder: Path, records: Records) -> Index:
    """With its rows, all their bytes compared with the names of their files."""
    begun = _begun(folder, records)
    width = begun.descriptor.width
    rows = tuple(
        _rows(folder, records, number, name, count, width)
        for number, name, count in records.files()
    )
    return replace(begun, rows=rows)


def _begun(folder: Path, records: Records) -> Index:
    """What an index holds descriptors of, without the rows."""
    facts = records.about()
    _require_format(folder, facts)
    try:
        _FACTS({**dict.fromkeys(_OPTIONAL), **facts})
    except Malformed as error:
        raise _damaged(folder, records.path, error) from error
    space = Space(
        facts["fingerprint"], Kind(facts["arithmetic"], facts["decoder"]), int(facts["width"])
    )
    return Index(folder, records, space, _descriptor(folder, facts), (), facts)


_OPTIONAL = {
    "matrix": strict.text(r"descriptor-[0-9a-f]{64}\.h5"),
    "approximate": strict.text(r"approximate-[0-9a-f]{64}"),
    "approximate_cells": strict.text(r"[1-9][0-9]{0,8}"),
    "approximate_last": strict.text(r"[0-9]{1,18}"),
    "approximate_images": strict.text(r"[0-9]{1,18}"),
}

_FACTS = strict.at_least(
    format=strict.text(r"[1-9][0-9]{0,8}"),
    fingerprint=strict.NAME,
    arithmetic=strict.NAME,
    decoder=strict.NAME,
    width=strict.text(r"[1-9][0-9]{0,6}"),
    descriptor=strict.NAME,
    **{name: strict.optional(reader) for name, reader in _OPTIONAL.items()},
)


def _damaged(folder: Path, path: Path, error: OSError | Malformed) -> RunError:
    files.require_resources(error, path)
    return RunError(
        f"Expected an intact index. Received: {path} is damaged ({error}). "
        f"Remove {folder}, and add the images again."
    )


def _require_format(folder: Path, facts: dict[str, str]) -> None:
    found = facts.get("format", "0")
    if found.isdecimal() and int(found[:18]) > FORMAT:
        raise RunError(
            f"Expected an index of format {FORMAT} or older. Received: {folder} has format "
            f"{facts['format']}. Use a newer tlcli."
        )


def _rows(folder: Path, records: Records, number: int, name: str, count: int, width: int) -> Rows:
    path = folder / name
    try:
        segment = segments.opened(path, width, np.float16)
        if len(segment.keys) != count:
            raise Malformed(f"it has {len(segment.keys)} rows, and not {count}")
        removed = records.removed(number)
        if removed and max(removed) >= count:
            raise Malformed(f"row {max(removed)} of {count} was removed")
    except FileNotFoundError:
        raise
    except (OSError, Malformed) as error:
        raise _damaged(folder, path, error) from error
    live = np.ones(count, bool)
    live[removed] = False
    return Rows(number, segment, width, live)


def _descriptor(folder: Path, facts: dict[str, str]) -> Descriptor:
    name, width = facts["descriptor"], int(facts["width"])
    if "matrix" not in facts:
        return Descriptor(name, width)
    path = folder / facts["matrix"]
    try:
        with strict.opened(path) as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() not in path.name:
                raise Malformed("its checksum does not match")
            with array_file(stream) as file:
                centre = file.array("centre", "<f4", (width,))
                matrix = file.array("matrix", "<f4", (width, None))
    except FileNotFoundError:
        raise
    except (OSError, Malformed) as error:
        raise _damaged(folder, path, error) from error
    return Descriptor(name, matrix.shape[1], centre, matrix)


def _refuse_space(folder: Path, have: Space, given: Space) -> None:
    differences = (
        ("backbone", have.fingerprint != given.fingerprint),
        ("kind of arithmetic", have.kind.arithmetic != given.kind.arithmetic),
        ("decoder", have.kind.decoder != given.kind.decoder),
    )
    what = next((name for name, differs in differences if differs), "width of features")
    raise RunError(
        f"Expected the {what} that the index was made with. Received: another one; descriptors of "
        f"both cannot be compared. Remove {folder}, and add the images again."
    )


@dataclass(frozen=True, eq=False)
class IndexWriter:
    """The right to change an index; exists only while its lock is held."""

    folder: Path
    records: Records

    @property
    def index(self) -> Index | None:
        """As it is now; None where nothing was added yet."""
        return _index(self.folder, self.records) if self.records.about() else None

    @property
    def begun(self) -> Index | None:
        """The same without rows, which takes no longer for many images than for few."""
        return _begun(self.folder, self.records) if self.records.about() else None

    def require_begun(self) -> None:
        """Raise UsageError where nothing was ever added."""
        if not self.records.about():
            raise _empty(self.folder)

    def require_usable(self) -> None:
        """Raise RunError where this program may not write, or a file is missing; none is read."""
        facts = self.records.about()
        _require_format(self.folder, facts)
        names = [name for _, name, _ in self.records.files()]
        for name in filter(None, [facts.get("matrix"), *names]):
            if not (self.folder / name).exists():
                raise _missing(self.folder, self.folder / name)

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
    _require_own(folder)
    with files.saving(folder):
        folder.mkdir(exist_ok=True)
        files.sync(run)
    with runs.locked(folder, wait_seconds), closing(Records(folder / RECORDS, writes=True)) as here:
        writer = IndexWriter(folder, here)
        writer.require_usable()
        writer.sweep()
        yield writer
