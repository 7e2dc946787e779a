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

import hashlib
import stat
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import files, runs, strict
from tlcli.errors import RunError, UsageError
from tlcli.extractor import Extractor
from tlcli.features import Kind, segments
from tlcli.retrieval.descriptors import Descriptor
from tlcli.retrieval.records import FORMAT, Entry, Records
from tlcli.retrieval.rows import Rows
from tlcli.strict import Malformed
from tlcli.strict.arrays import array_file

Float32 = NDArray[np.float32]

Float64 = NDArray[np.float64]

FOLDER = "index"

RECORDS = "records.sqlite"


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
            refuse_space(self.folder, self.space, space)

    def live_blocks(self) -> Iterator[Float32]:
        """The descriptors (k, M) of all images, in the order of their places."""
        for rows in self.rows:
            for first, block in rows.blocks():
                yield block[rows.live_in(first)]

    def row(self, segment: int, row: int) -> Float64:
        """One descriptor (M,)."""
        (rows,) = (rows for rows in self.rows if rows.id == segment)
        return np.asarray(rows.read(row, row + 1)[0], np.float64)

    def __len__(self) -> int:
        return self.records.count()


def require_index(run: Path) -> None:
    """Raise UsageError unless a run has an index, RunError where it lies elsewhere."""
    require_own_records(run / FOLDER)
    if not (run / FOLDER / RECORDS).is_file():
        raise UsageError(
            f"Expected a run with an index. Received: {run} has none. "
            f"Make one with `tlcli index add {run} DATA`."
        )


def require_own_records(folder: Path) -> None:
    """Refuse records that lie elsewhere, with what SQLite writes beside them."""
    runs.require_own(folder)
    for suffix in ("", "-wal", "-shm", "-journal"):
        runs.require_own(folder / f"{RECORDS}{suffix}", stat.S_ISREG)


def held(run: Path, names: Collection[str], hashes: Collection[str] = ()) -> list[Entry]:
    """The images of some classes, or with some contents, that the index of a run holds, if any.

    Raises:
        RunError: it is damaged.
    """
    require_own_records(run / FOLDER)
    if not (run / FOLDER / RECORDS).is_file():
        return []
    with closing(Records(run / FOLDER / RECORDS)) as records:
        return list({*records.of_labels(names), *records.of_hashes(hashes)})


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
            raise without_images(folder)
        return state_of(folder, records)
    except FileNotFoundError as error:
        records.end_reading()
        if attempts:
            return _current(folder, records, attempts - 1)
        raise missing_file(folder, error.filename) from error


def without_images(folder: Path) -> UsageError:
    """What is said of an index without images."""
    return UsageError(
        f"Expected an index with images. Received: {folder} holds none. "
        "Add some with `tlcli index add`."
    )


def missing_file(folder: Path, path: str | Path) -> RunError:
    """What is said where a file of the index is gone."""
    return RunError(
        f"Expected an intact index. Received: {path} is missing. "
        f"Remove {folder}, and add the images again."
    )


def state_of(folder: Path, records: Records) -> Index:
    """With its rows, all their bytes compared with the names of their files."""
    begun = begun_state(folder, records)
    width = begun.descriptor.width
    rows = tuple(
        _rows(folder, records, number, name, count, width)
        for number, name, count in records.files()
    )
    return replace(begun, rows=rows)


def begun_state(folder: Path, records: Records) -> Index:
    """What an index holds descriptors of, without the rows."""
    facts = records.about()
    require_format(folder, facts)
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


def require_format(folder: Path, facts: dict[str, str]) -> None:
    """Raise RunError where a newer program made the index."""
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


def refuse_space(folder: Path, have: Space, given: Space) -> None:
    """Raise RunError that names what differs between two spaces."""
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
