"""Files → content hashes; a file that has not changed since an earlier command is not read again.

The hashes that are known stand in a SQLite database in the cache folder, one row a file: its
absolute path, its SHA-256 and a seal, the checksum over both and over what `stat` says of it. A
row is believed only if its seal is the one that the file would get now, so that a changed file and
a damaged row come to the same: the file is hashed.

- What is at a URL has a seal over what its store says of it: its size, and a tag that changes with
  every content (ETag, generation). Where the store has no tag, it is read again each time.
- A file that was changed less than two seconds ago is hashed but not recorded. It could change
  once more without a sign, for file systems keep time as coarsely as that.
- The database is disposable and results never depend on it. When it is damaged it is begun anew;
  when it is locked, or cannot be read or written, it is done without.
- It has a rollback journal: the write-ahead log needs memory shared by processes, which network
  file systems lack, and a folder that may be written. Nothing is flushed: the journal is there
  after a kill, and against what a power failure may do there are the seals.
"""

import contextlib
import hashlib
import itertools
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tlcli import cache, urls
from tlcli.errors import BadImage
from tlcli.images.reading import PROCESSORS, digest, map_ahead, readable, reading
from tlcli.urls import READERS, Place, Url, Version

log = logging.getLogger(__name__)

CHUNK = 512
"""Files that are looked up in one transaction, and recorded in one."""

GROUPS = 16
"""Parts of a chunk, each one task of a thread: a task costs as much as hashing a small file."""

WORKERS = min(4, PROCESSORS)
IN_DOUBT_NS = 2 * 10**9
BUSY_SECONDS = 1.0

MOST_ROWS = 2_000_000
"""Those recorded last stay; a row has some 200 bytes."""

FORMAT = 1
CREATE = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, sha256 BLOB, seal BLOB)"
SELECT = "SELECT lower(hex(sha256)), seal FROM files WHERE path = ?"
INSERT = "INSERT OR REPLACE INTO files VALUES (?, ?, ?)"
DROP_OLDEST = "DELETE FROM files WHERE rowid <= (SELECT max(rowid) FROM files) - ?"

# UnicodeDecodeError: SQLite's message quotes damaged text.
FAILURES = (OSError, sqlite3.Error, UnicodeDecodeError)

# Failures that say nothing about the database itself.
CIRCUMSTANCES = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Stamp:
    """What tells a file, as it is now, from every other and from itself at other times."""

    path: bytes
    """Absolute, links are not resolved; or a URL."""
    facts: tuple[object, ...]
    """Device, inode, size, time of modification and of change in ns, of a link's target; of a URL,
    size and tag."""
    changed_ns: int = 0
    """The later of the times."""

    @property
    def is_settled(self) -> bool:
        """Whether the file's next change cannot leave its times as they are."""
        return self.changed_ns + IN_DOUBT_NS < _now_ns()

    def seal(self, sha256: str) -> bytes:
        """The checksum of the row that says that the file has this content."""
        row = f"{sha256} {self.facts} ".encode() + self.path
        return hashlib.blake2b(row, digest_size=16).digest()


NO_FILE = Stamp(b"", ())
"""The stamp of what cannot be asked; nothing is recorded under it."""


def content_hashes(paths: Iterable[Place]) -> Generator[str | BadImage]:
    """Yield, in input order, each file's SHA-256 in hexadecimal or why it cannot be read.

    Paths are taken a chunk at a time. Known files are not opened.
    """
    remaining = iter(paths)
    with closing(Index(cache.folder() / "hashes.sqlite")) as index:
        while chunk := list(itertools.islice(remaining, CHUNK)):
            yield from _hash_chunk(chunk, index)


class Index:
    """Stamp → content hash, for the files of earlier calls; never fails, but may know nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None
        self._is_begun_anew = False
        self._given_up: set[object] = set()

    def find(self, stamps: Sequence[Stamp]) -> dict[Stamp, str]:
        """The hashes of those of `stamps` that are known."""
        rows = self._attempt(_select, stamps) or []
        found = zip(stamps, rows, strict=False)
        return {stamp: row[0] for stamp, row in found if row and row[1] == stamp.seal(row[0])}

    def add(self, hashes: Mapping[Stamp, str]) -> None:
        """Record what was hashed."""
        if hashes:
            self._attempt(_insert, hashes)

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attempt(self, work: Callable[[sqlite3.Connection, T], R], argument: T) -> R | None:
        """What `work` returns, or None; what has failed once is not tried again."""
        if work in self._given_up:
            return None
        try:
            return work(self._connection or self._open(), argument)
        except FAILURES as error:
            if _is_damage(error) and not self._is_begun_anew:
                self._begin_anew()
            else:
                self._give_up(work, error)
            self.close()
            return None

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Whichever thread the generator ends in may close it.
        self._connection = sqlite3.connect(self._path, BUSY_SECONDS, check_same_thread=False)
        self._opened = self._path.lstat()
        _prepare(self._connection)
        return self._connection

    def _begin_anew(self) -> None:
        """Remove the database, unless another process has put a new one in its place."""
        self._is_begun_anew = True
        with contextlib.suppress(OSError):
            present = self._path.lstat()
            is_same = self._opened is not None and os.path.samestat(present, self._opened)
            if is_same and stat.S_ISREG(present.st_mode):
                self._path.unlink()
                log.warning("hash index: %s is damaged; it is begun anew", self._path)

    def _give_up(self, work: object, error: Exception) -> None:
        if not self._given_up:
            log.info("hash index: %s cannot be used (%r)", self._path, error)
        self._given_up.add(work)


def _prepare(connection: sqlite3.Connection) -> None:
    """Create the table in a new database; raises for one of another format."""
    connection.execute("PRAGMA synchronous = OFF")
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found == 0:
        connection.execute(CREATE)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    elif found != FORMAT:
        raise sqlite3.DatabaseError(f"format {found}, not {FORMAT}")


def _is_damage(error: Exception) -> bool:
    """Whether the database is at fault, and not the circumstances."""
    if isinstance(error, OSError):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF not in CIRCUMSTANCES  # the other bits of a code are details


def _select(
    connection: sqlite3.Connection, stamps: Sequence[Stamp]
) -> list[tuple[str, object] | None]:
    """The row of each path: the content hash and the seal."""
    connection.execute("BEGIN")
    rows = [connection.execute(SELECT, (stamp.path,)).fetchone() for stamp in stamps]
    connection.commit()
    return rows


def _insert(connection: sqlite3.Connection, hashes: Mapping[Stamp, str]) -> None:
    with connection:
        connection.executemany(
            INSERT,
            [
                (stamp.path, bytes.fromhex(sha256), stamp.seal(sha256))
                for stamp, sha256 in hashes.items()
            ],
        )
        connection.execute(DROP_OLDEST, (MOST_ROWS,))


def _hash_chunk(paths: Sequence[Place], index: Index) -> Iterator[str | BadImage]:
    jobs = list(zip(paths, _stamps(paths), strict=True))
    known = index.find([stamp for _, stamp in jobs])
    computed = _compute([job for job in jobs if job[1] not in known])
    fresh: dict[Stamp, str] = {}
    try:
        for _, stamp in jobs:
            if stamp in known:
                yield known[stamp]
                continue
            result, is_certain = next(computed)
            if is_certain and isinstance(result, str):
                fresh[stamp] = result
            yield result
    finally:
        index.add(fresh)


def _stamps(paths: Sequence[Place]) -> Iterable[Stamp]:
    if any(isinstance(path, Url) for path in paths):
        return map_ahead(_stamp, paths, READERS, CHUNK)
    return map(_stamp, paths)


def _stamp(path: Place) -> Stamp:
    try:
        if isinstance(path, Url):
            return _stamp_of_url(path, urls.version(path))
        status = path.stat()
        changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
        return Stamp(os.fsencode(path.absolute()), _facts(status), changed_ns)
    except (OSError, ValueError):  # ValueError: a character that no path can have
        return NO_FILE


def _stamp_of_url(url: Url, version: Version) -> Stamp:
    if not version.tag:
        return NO_FILE
    return Stamp(url.text.encode(errors="surrogateescape"), (version.size, version.tag))


def _facts(status: os.stat_result) -> tuple[int, ...]:
    times = status.st_mtime_ns, status.st_ctime_ns
    return (status.st_dev, status.st_ino, status.st_size, *times)


def _compute(jobs: Sequence[tuple[Place, Stamp]]) -> Iterator[tuple[str | BadImage, bool]]:
    size = len(jobs) // GROUPS + 1
    groups = (jobs[start : start + size] for start in range(0, len(jobs), size))
    workers = READERS if any(isinstance(path, Url) for path, _ in jobs) else WORKERS
    for group in map_ahead(_hash_group, groups, workers, GROUPS):
        yield from group


def _hash_group(jobs: Sequence[tuple[Place, Stamp]]) -> list[tuple[str | BadImage, bool]]:
    return [_hash(path, stamp) for path, stamp in jobs]


def _hash(path: Place, stamp: Stamp) -> tuple[str | BadImage, bool]:
    """The content hash or why there is none, and whether it is certain to belong to the stamp."""
    return _hash_url(path, stamp) if isinstance(path, Url) else _hash_file(path, stamp)


def _hash_url(url: Url, stamp: Stamp) -> tuple[str | BadImage, bool]:
    try:
        content, version = urls.read(url)
    except OSError as error:
        return BadImage(readable(error)), False
    is_certain = stamp is not NO_FILE and stamp == _stamp_of_url(url, version)
    return hashlib.sha256(content).hexdigest(), is_certain


def _hash_file(path: Path, stamp: Stamp) -> tuple[str | BadImage, bool]:
    is_settled = stamp.is_settled
    try:
        with reading(path) as file:
            return digest(file), is_settled and _facts(os.fstat(file.fileno())) == stamp.facts
    except BadImage as error:
        return error, False


def _now_ns() -> int:
    return time.time_ns()
