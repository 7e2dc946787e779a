"""Which image is which row: one SQLite database, which decides what the index holds.

    about    what the index is: format, backbone, arithmetic, descriptor, approximate index
    files    the segments of rows
    images   one row an image: its place, its class, the path under which it was added
    removed  places of rows that belong to no image any more

A write-ahead log with `synchronous = FULL`: what a command reported is there after a power failure,
and readers never wait for a writer.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlcli import strict
from tlcli.errors import RunError, StorageError
from tlcli.strict import Malformed, Reader

FORMAT = 1
BUSY_SECONDS = 5.0

_TABLES = (
    "CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, "
    "rows INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS images (id INTEGER PRIMARY KEY AUTOINCREMENT, "
    "sha256 TEXT NOT NULL UNIQUE, label TEXT NOT NULL, path TEXT NOT NULL, "
    "file INTEGER NOT NULL, row INTEGER NOT NULL, UNIQUE (file, row)) STRICT",
    "CREATE INDEX IF NOT EXISTS labels ON images (label)",
    "CREATE TABLE IF NOT EXISTS removed (file INTEGER NOT NULL, row INTEGER NOT NULL, "
    "PRIMARY KEY (file, row)) STRICT",
)

_SELECT = "SELECT id, sha256, label, path, file, row FROM images "

_CANNOT_SAVE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
}

_TEXT = ("utf-8", "surrogateescape")
"""How a path that is no UTF-8 is kept: by its bytes."""

_NUMBER = strict.whole(0, 2**62)

_SEGMENT = strict.text(r"[0-9a-f]{64}\.h5")

_ENTRY = (_NUMBER, strict.HEX_DIGEST, strict.NAME, strict.any_text, _NUMBER, _NUMBER)


@dataclass(frozen=True)
class Entry:
    """An image of the index."""

    id: int
    """Never used again, and larger than those before."""
    sha256: str
    label: str
    path: str
    file: int
    row: int


class Records:
    """An open database; every failure is a TlcliError that names its path."""

    def __init__(self, path: Path, *, writes: bool = False) -> None:
        """Open for reading, where a snapshot is kept until it is closed, or for writing."""
        self.path = path
        with self._failing():
            self._database = _connected(path, writes)
        self._database.text_factory = lambda raw: raw.decode(*_TEXT)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def begin_reading(self) -> None:
        """See one state of the index from now on, whatever is written meanwhile."""
        with self._failing():
            self._database.execute("BEGIN")
            self._database.execute("SELECT count(*) FROM about").fetchone()

    def end_reading(self) -> None:
        """See what was written meanwhile."""
        with self._failing():
            self._database.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is changed inside is there at the end as a whole, and flushed, or not at all."""
        with self._failing():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def about(self) -> dict[str, str]:
        """What the index is; empty where nothing was added yet."""
        return dict(self._read("SELECT key, value FROM about", (strict.NAME, strict.NAME)))

    def set_about(self, facts: Mapping[str, str]) -> None:
        """Say what the index is."""
        self._many("INSERT OR REPLACE INTO about VALUES (?, ?)", facts.items())

    def files(self) -> list[tuple[int, str, int]]:
        """(id, name, rows) of each segment."""
        query = "SELECT id, name, rows FROM files ORDER BY id"
        return self._read(query, (_NUMBER, _SEGMENT, _NUMBER))

    def add_file(self, name: str, rows: int) -> int:
        """Its id; that of a segment which is there already is given again."""
        self._many("INSERT OR IGNORE INTO files (name, rows) VALUES (?, ?)", [(name, rows)])
        ((found,),) = self._rows("SELECT id FROM files WHERE name = ?", (name,))
        return int(found)

    def drop_files(self, ids: Iterable[int]) -> None:
        """Forget segments, and the places of their removed rows."""
        gone = [(number,) for number in ids]
        self._many("DELETE FROM removed WHERE file = ?", gone)
        self._many("DELETE FROM files WHERE id = ?", gone)

    def removed(self, file: int) -> list[int]:
        """The rows of a segment that belong to no image."""
        query = "SELECT row FROM removed WHERE file = ?"
        return [row for (row,) in self._read(query, (_NUMBER,), (file,))]

    def add(self, images: Iterable[tuple[str, str, str, int, int]]) -> None:
        """Add images: (sha256, label, path, file, row)."""
        self._many(
            "INSERT INTO images (sha256, label, path, file, row) "
            "VALUES (?, ?, CAST(? AS TEXT), ?, ?)",
            ((key, label, path.encode(*_TEXT), *place) for key, label, path, *place in images),
        )

    def move(self, places: Iterable[tuple[int, int, int]]) -> None:
        """Say where the rows of images are now: (file, row, id)."""
        self._many("UPDATE images SET file = -?, row = ? WHERE id = ?", places)
        self._many("UPDATE images SET file = -file WHERE file < 0", [()])

    def remove(self, entries: Sequence[Entry]) -> None:
        """Take images away; their rows stay until the index is optimised."""
        places = [(entry.file, entry.row) for entry in entries]
        self._many("INSERT OR IGNORE INTO removed VALUES (?, ?)", places)
        self._many("DELETE FROM images WHERE id = ?", [(entry.id,) for entry in entries])

    def entries(self) -> list[Entry]:
        """Every image, in the order of their places."""
        return self._entries("ORDER BY file, row", ())

    def of_labels(self, labels: Iterable[str]) -> list[Entry]:
        """The images of classes."""
        return [entry for label in labels for entry in self._entries("WHERE label = ?", (label,))]

    def of_hashes(self, hashes: Iterable[str]) -> list[Entry]:
        """Those of some images that the index holds."""
        return [entry for key in hashes for entry in self._entries("WHERE sha256 = ?", (key,))]

    def places(self, ids: Sequence[int]) -> set[tuple[int, int]]:
        """(file, row) of those of some images that the index still holds."""
        query = "SELECT file, row FROM images WHERE id IN (SELECT value FROM json_each(?))"
        return set(self._read(query, (_NUMBER, _NUMBER), (json.dumps(ids),)))

    def at(self, file: int, row: int) -> Entry:
        """The image of a row."""
        found = self._entries("WHERE file = ? AND row = ?", (file, row))
        with self._failing():
            if len(found) != 1:
                raise Malformed(f"row {row} of segment {file} is of {len(found)} images")
        return found[0]

    def files_after(self, last: int) -> set[int]:
        """The segments that hold images with a larger id."""
        return {
            number
            for (number,) in self._read(
                # By id: SQLite would read the whole index of places instead.
                "SELECT DISTINCT file FROM images NOT INDEXED WHERE id > ?",
                (_NUMBER,),
                (last,),
            )
        }

    def last(self) -> int:
        """The largest id that an image has or had; 0 where there never was one."""
        ((found,),) = self._read("SELECT coalesce(max(id), 0) FROM images", (_NUMBER,))
        return int(found)

    def labels(self) -> dict[str, int]:
        """Class → how many images."""
        query = "SELECT label, count(*) FROM images GROUP BY label ORDER BY label"
        return dict(self._read(query, (strict.NAME, _NUMBER)))

    def count(self) -> int:
        """How many images there are."""
        return int(self._rows("SELECT count(*) FROM images")[0][0])

    def count_until(self, last: int) -> int:
        """How many images there are with an id of at most `last`."""
        return int(self._rows("SELECT count(*) FROM images WHERE id <= ?", (last,))[0][0])

    def complaints(self) -> list[str]:
        """What SQLite finds wrong with the database."""
        found = [str(text) for (text,) in self._rows("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def _entries(self, where: str, values: tuple[object, ...]) -> list[Entry]:
        return [Entry(*row) for row in self._read(_SELECT + where, _ENTRY, values)]

    def _read(
        self, query: str, readers: Sequence[Reader[Any]], values: tuple[object, ...] = ()
    ) -> list[tuple[Any, ...]]:
        """Rows whose values are what readers say, one for each column."""
        rows = self._rows(query, values)
        with self._failing():
            return [
                tuple(read(value) for read, value in zip(readers, row, strict=True)) for row in rows
            ]

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._failing():
            return self._database.execute(query, values).fetchall()

    def _many(self, query: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._failing():
            self._database.executemany(query, rows)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, Malformed) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _CANNOT_SAVE:
                raise StorageError(
                    f"Expected to be able to use {self.path}. Received: {error}. Free space, or "
                    "see who may read and write there."
                ) from error
            raise RunError(
                f"Expected an intact index. Received: {self.path} is damaged ({error}). "
                "Remove the folder, and add the images again."
            ) from error


def _connected(path: Path, writes: bool) -> sqlite3.Connection:
    if writes:
        database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        for table in _TABLES:
            database.execute(table)
        return database
    return _readable(path)


def _readable(path: Path) -> sqlite3.Connection:
    """Where the folder may not be written and nobody writes, the file alone is the index."""
    try:
        database = _opened(path, "mode=ro")
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        if path.with_name(path.name + "-wal").exists():
            raise
        database = _opened(path, "immutable=1")
    return database


def _opened(path: Path, how: str) -> sqlite3.Connection:
    place = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(place, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
