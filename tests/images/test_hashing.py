"""A file that has not changed is read once, and results never depend on the index."""

import hashlib
import itertools
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlcli.errors import BadImage
from tlcli.images import content_hashes, hashing, reading
from tlcli.images.hashing import Index

Connect = Callable[..., sqlite3.Connection]

HOUR = 3600 * 10**9


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the index; the clock is an hour ahead, so that every file is old."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(hashing, "_now_ns", lambda: time.time_ns() + HOUR)
    return tmp_path / "cache" / "hashes.sqlite"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened from now on."""
    names = []
    real = Path.open

    def counted(self: Path, *arguments: Any, **options: Any) -> Any:
        names.append(self.name)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", counted)
    return names


@pytest.fixture
def data(tmp_path: Path) -> list[Path]:
    return put_many(tmp_path / "data", 20)


def put_many(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    return [put(folder / f"{number}.png", b"content %d" % number) for number in range(count)]


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def tick(folder: Path) -> None:
    """Wait until the clock of the file system has moved on: what tells two changes apart."""
    before = put(folder / "tick", b"").stat().st_ctime_ns
    while put(folder / "tick", b"").stat().st_ctime_ns == before:
        time.sleep(0.001)


def truth(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def hashes(paths: Iterable[Path]) -> list[str | BadImage]:
    return list(content_hashes(paths))


def rows(index: Path) -> list[tuple[bytes]]:
    with closing(sqlite3.connect(index)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute("SELECT path FROM files ORDER BY rowid").fetchall()


def test_the_second_call_reads_nothing(data: list[Path], index: Path, opened: list[str]) -> None:
    expected = truth(data)
    opened.clear()
    assert hashes(data) == expected
    assert sorted(opened) == sorted(path.name for path in data)
    opened.clear()
    assert hashes(data) == expected
    assert opened == []
    assert len(rows(index)) == 20


def test_order_and_errors_stay_in_place(
    data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "CHUNK", 3)
    os.mkfifo(tmp_path / "pipe")
    bad = [tmp_path / "missing", tmp_path / "pipe", tmp_path, Path("nul\0"), Path("\ud800")]
    mixed = [path for pair in itertools.zip_longest(data, bad) for path in pair if path]
    for _ in range(2):
        found = hashes(mixed)
        reasons = [str(result) for result in found if isinstance(result, BadImage)]
        assert reasons[:3] == [
            "the file does not exist",
            "not a regular file (a pipe, socket or device)",
            "a folder, not a file",
        ]
        assert [isinstance(result, BadImage) for result in found] == [p in bad for p in mixed]
        assert [result for result in found if isinstance(result, str)] == truth(data)


def test_a_file_given_twice_and_an_empty_one(data: list[Path], tmp_path: Path) -> None:
    paths = [data[0], data[0], put(tmp_path / "empty", b"")]
    assert hashes(paths) == hashes(paths) == truth(paths)


def test_nothing_is_hashed_for_nothing() -> None:
    assert hashes([]) == []


def test_changed_content_with_size_and_time_restored_is_noticed(
    data: list[Path], tmp_path: Path
) -> None:
    hashes(data)
    before = data[3].stat()
    tick(tmp_path)
    put(data[3], b"CONTENT 3")
    os.utime(data[3], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = data[3].stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert hashes(data) == truth(data)
    assert hashes(data) == truth(data)


def test_a_file_renamed_over_another_is_noticed(data: list[Path], tmp_path: Path) -> None:
    hashes(data)
    before = data[3].stat()
    other = put(tmp_path / "other", b"CONTENT 3")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(data[3])
    assert hashes(data) == truth(data)


def test_files_that_change_places_are_noticed(data: list[Path], tmp_path: Path) -> None:
    hashes(data)
    data[0].rename(tmp_path / "aside")
    data[1].rename(data[0])
    (tmp_path / "aside").rename(data[1])
    assert hashes(data) == truth(data)
    moved = data[2].rename(tmp_path / "moved")
    assert hashes([moved, data[0]]) == truth([moved, data[0]])
    assert isinstance(hashes([data[2]])[0], BadImage)


def test_a_link_that_points_elsewhere_is_noticed(
    data: list[Path], tmp_path: Path, index: Path, opened: list[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(data[0])
    hashes([link])
    assert rows(index) == [(os.fsencode(link),)]
    opened.clear()
    assert hashes([link]) == [hashlib.sha256(b"content 0").hexdigest()]
    assert opened == []
    link.unlink()
    link.symlink_to(data[1])
    assert hashes([link]) == truth(data[1:2])


def test_permission_that_was_taken_away_is_noticed(data: list[Path], opened: list[str]) -> None:
    hashes(data)
    tick(data[0].parent)
    data[0].chmod(0)
    opened.clear()
    hashes(data)
    assert opened == ["0.png"]


STEPS = ["write", "same time", "rename", "link", "hard link", "delete"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2), st.integers(0, 2)), max_size=5)
)
def test_whatever_happens_to_files_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("steps")
    paths = [put(folder / str(number), b"%d" % number) for number in range(3)]
    for count, (step, first, second) in enumerate(steps):
        agrees(paths)
        tick(folder)
        change(step, paths[first], paths[second], b"%d" % (count % 10))
    agrees(paths)
    agrees(paths)


def change(step: str, path: Path, other: Path, content: bytes) -> None:
    before = path.stat() if path.exists() else None
    if step == "write" or (step == "same time" and before is None):
        path.unlink(missing_ok=True)
        put(path, content)
    elif step == "same time" and before:
        put(path, content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif step == "rename" and before:
        path.replace(other)
    elif step in ("link", "hard link") and path != other and before:
        other.unlink(missing_ok=True)
        other.symlink_to(path) if step == "link" else other.hardlink_to(path)
    elif step == "delete":
        path.unlink(missing_ok=True)


def agrees(paths: list[Path]) -> None:
    for path, found in zip(paths, hashes(paths), strict=True):
        if isinstance(found, BadImage):
            assert not path.exists()
        else:
            assert [found] == truth([path])


# --- what is not recorded


@pytest.mark.parametrize(("seconds", "recorded"), [(-HOUR / 1e9, 0), (0, 0), (1.9, 0), (2.1, 1)])
@pytest.mark.parametrize("time_of", ["st_mtime_ns", "st_ctime_ns"])
def test_a_young_file_is_in_doubt(
    tmp_path: Path,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    time_of: str,
    seconds: float,
    recorded: int,
) -> None:
    path = put(tmp_path / "a", b"a")
    shift = HOUR if time_of == "st_mtime_ns" else -HOUR
    os.utime(path, ns=(0, path.stat().st_mtime_ns + shift))
    now = getattr(path.stat(), time_of) + int(seconds * 1e9)
    monkeypatch.setattr(hashing, "_now_ns", lambda: now)
    assert hashes([path]) == truth([path])
    assert (len(rows(index)) if index.exists() else 0) == recorded


def test_a_file_that_changes_while_it_is_hashed_is_not_recorded(
    data: list[Path], index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading.digest

    def changed_after(file: BinaryIO) -> str:
        found = real(file)
        if file.name == str(data[3]):
            put(data[3], b"longer than before")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(hashing, "digest", changed_after)
        hashes(data)
    assert len(rows(index)) == 19
    assert hashes(data) == truth(data)


def test_a_file_that_is_exchanged_before_it_is_opened_is_not_recorded(
    data: list[Path], index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading.reading

    def exchanged(path: Path) -> AbstractContextManager[BinaryIO]:
        data[1].replace(data[0])
        monkeypatch.setattr(hashing, "reading", real)
        return real(path)

    monkeypatch.setattr(hashing, "reading", exchanged)
    assert hashes(data[:1]) == [hashlib.sha256(b"content 1").hexdigest()]
    assert rows(index) == []


def test_the_rows_recorded_last_are_kept(
    data: list[Path], index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "CHUNK", 2)
    monkeypatch.setattr(hashing, "MOST_ROWS", 5)
    hashes(data)
    assert rows(index) == [(os.fsencode(path),) for path in data[-5:]]
    assert hashes(data) == truth(data)


# --- paths


@pytest.mark.parametrize("name", [b"a\xff", b"a\nb", "Käse".encode(), b" ", b"'; --"])
def test_odd_names(tmp_path: Path, opened: list[str], name: bytes) -> None:
    path = put(tmp_path / os.fsdecode(name), name)
    assert hashes([path]) == truth([path])
    opened.clear()
    assert hashes([path]) == [hashlib.sha256(name).hexdigest()]
    assert opened == []


def test_a_relative_path_has_the_row_of_the_absolute_one(
    data: list[Path], index: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = hashes(data)
    opened.clear()
    monkeypatch.chdir(data[0].parent)
    assert hashes(Path(path.name) for path in data) == expected
    assert opened == []
    assert len(rows(index)) == 20


def test_a_working_folder_that_is_gone(
    data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert [type(found) for found in hashes([Path("a"), data[0]])] == [BadImage, str]


# --- a stream


def test_paths_are_taken_as_they_are_needed(
    data: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "CHUNK", 8)
    taken: list[Path] = []

    def listed() -> Iterator[Path]:
        for path in itertools.cycle(data):
            taken.append(path)
            yield path

    endless = listed()
    for _ in range(2):
        results = content_hashes(endless)
        assert taken == []
        assert list(itertools.islice(results, 9)) == truth(taken[:9])
        assert len(taken) == 16
        taken.clear()
        data.reverse()


def test_what_was_hashed_before_an_interruption_is_kept(data: list[Path], index: Path) -> None:
    results = content_hashes(data)
    list(itertools.islice(results, 7))
    results.close()
    assert len(rows(index)) == 7


def test_another_thread_may_end_it(data: list[Path], index: Path) -> None:
    results = content_hashes(data)
    list(itertools.islice(results, 7))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(results.close).result()
    assert len(rows(index)) == 7


def test_nothing_stays_open(data: list[Path], index: Path) -> None:
    def descriptors() -> list[str]:
        found = []
        for link in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # the one that lists the folder
                found.append(os.fsdecode(link.readlink()))
        return [target for target in found if target.startswith(str(index))]

    results = content_hashes(data)
    next(results)
    assert descriptors()
    results.close()
    assert descriptors() == []
    hashes(data)
    assert descriptors() == []


# --- an index that cannot be used


def as_directory(index: Path) -> None:
    index.mkdir(parents=True)


def as_file_in_the_way(index: Path) -> None:
    index.parent.write_text("in the way")


def as_link_to_nowhere(index: Path) -> None:
    index.parent.mkdir()
    index.symlink_to(index.parent / "no" / "where")


def as_link_to_garbage(index: Path) -> None:
    index.parent.mkdir()
    put(index.parent / "elsewhere", b"garbage" * 1000)
    index.symlink_to(index.parent / "elsewhere")


def as_pipe(index: Path) -> None:
    index.parent.mkdir()
    os.mkfifo(index)


def kind_and_inode(index: Path) -> tuple[int, int]:
    status = index.lstat() if index.parent.is_dir() else index.parent.lstat()
    return status.st_mode, status.st_ino


@pytest.mark.parametrize(
    "block", [as_directory, as_file_in_the_way, as_link_to_nowhere, as_link_to_garbage, as_pipe]
)
def test_without_an_index_files_are_hashed(
    data: list[Path],
    index: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    block: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(hashing, "CHUNK", 3)
    block(index)
    before = kind_and_inode(index)
    with caplog.at_level(logging.INFO, "tlcli"):
        assert hashes(data) == truth(data)
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert str(index) in caplog.text
    assert kind_and_inode(index) == before
    assert not (index.parent / "elsewhere").exists() or (
        (index.parent / "elsewhere").read_bytes() == b"garbage" * 1000
    )


def connecting(monkeypatch: pytest.MonkeyPatch, connect: Callable[..., sqlite3.Connection]) -> None:
    real = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, timeout, **options: connect(real, path, timeout, options)
    )


def test_an_index_that_may_only_be_read_is_read(
    data: list[Path],
    index: Path,
    caplog: pytest.LogCaptureFixture,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashes(data[:10])
    expected = truth(data)

    def read_only(
        real: Connect, path: Path, timeout: float, options: dict[str, bool]
    ) -> sqlite3.Connection:
        return real(f"file:{path}?mode=ro", timeout, uri=True, **options)

    connecting(monkeypatch, read_only)
    monkeypatch.setattr(hashing, "CHUNK", 3)
    opened.clear()
    with caplog.at_level(logging.INFO, "tlcli"):
        assert hashes(data[::-1]) == expected[::-1]
    assert len(opened) == 10
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_a_full_disk_keeps_what_is_there(
    data: list[Path],
    index: Path,
    caplog: pytest.LogCaptureFixture,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashes(data)

    def full(
        real: Connect, path: Path, timeout: float, options: dict[str, bool]
    ) -> sqlite3.Connection:
        connection = real(path, timeout, **options)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    connecting(monkeypatch, full)
    more = put_many(data[0].parent / "more", 200)
    expected = truth([*more, *data])
    opened.clear()
    with caplog.at_level(logging.INFO, "tlcli"):
        assert hashes([*more, *data]) == expected
    assert len(opened) == 200
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    monkeypatch.undo()
    assert len(rows(index)) == 20


def test_a_locked_index_is_done_without(
    data: list[Path], index: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes(data)
    waits = []

    def counted(
        real: Connect, path: Path, timeout: float, options: dict[str, bool]
    ) -> sqlite3.Connection:
        waits.append(timeout)
        return real(path, 0.01, **options)

    monkeypatch.setattr(hashing, "CHUNK", 3)
    with closing(sqlite3.connect(index, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        connecting(monkeypatch, counted)
        with caplog.at_level(logging.INFO, "tlcli"):
            assert hashes(data) == truth(data)
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert waits == [1.0, 1.0], "once to look up, once to record"
    monkeypatch.undo()
    assert len(rows(index)) == 20


def test_a_cache_that_is_cleared_meanwhile(
    data: list[Path], index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "CHUNK", 3)
    results = content_hashes(data)
    found = list(itertools.islice(results, 5))
    index.unlink()
    index.parent.rmdir()
    assert found + list(results) == truth(data)


# --- damage


def garbage(index: Path) -> None:
    put(index, b"garbage" * 1000)


def cut(index: Path) -> None:
    os.truncate(index, index.stat().st_size // 2 + 100)


def of_another_format(index: Path) -> None:
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("PRAGMA user_version = 7")


def of_another_kind(index: Path) -> None:
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("DROP TABLE files")
        connection.execute("CREATE TABLE files (name TEXT)")


@pytest.mark.parametrize("damage", [garbage, cut, of_another_format, of_another_kind])
def test_a_damaged_index_is_begun_anew(
    data: list[Path],
    index: Path,
    caplog: pytest.LogCaptureFixture,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
) -> None:
    expected = hashes(data)
    damage(index)
    monkeypatch.setattr(hashing, "CHUNK", 3)
    with caplog.at_level(logging.INFO, "tlcli"):
        assert hashes(data) == expected
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{index} is damaged" in caplog.text
    assert len(rows(index)) == 20
    opened.clear()
    assert hashes(data) == expected
    assert opened == []


def test_an_index_that_stays_damaged_is_given_up(
    data: list[Path], index: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*arguments: object) -> NoReturn:
        raise sqlite3.DatabaseError("damaged")

    monkeypatch.setattr(hashing, "CHUNK", 3)
    monkeypatch.setattr(hashing, "_select", damaged)
    with caplog.at_level(logging.INFO, "tlcli"):
        assert hashes(data) == truth(data)
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]


def test_an_index_that_another_process_began_anew_is_not_removed(
    data: list[Path], index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hashes(data)
    sound = index.rename(tmp_path / "sound")
    garbage(index)
    real = hashing._prepare

    def exchanged(connection: sqlite3.Connection) -> None:
        if sound.exists():
            sound.replace(index)
        real(connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "_prepare", exchanged)
        assert hashes(data) == truth(data)
    assert not caplog.records
    assert len(rows(index)) == 20


def test_an_empty_file_is_a_new_index(
    data: list[Path], index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index.parent.mkdir()
    put(index, b"")
    hashes(data)
    assert not caplog.records
    assert len(rows(index)) == 20


# Damages the index in a process that can be given up, and prints what went wrong.
FLIPPER = """
    import logging, os, sys, time
    from pathlib import Path
    from tlcli.images import content_hashes, hashing

    logging.disable()
    hashing._now_ns = lambda: time.time_ns() + 10**13
    index = Path(os.environ["TLCLI_CACHE_DIR"]) / "hashes.sqlite"
    paths = sorted(Path(sys.argv[1]).iterdir())
    expected = list(content_hashes(paths))
    whole = index.read_bytes()

    def check(damaged, where):
        index.write_bytes(damaged)
        assert list(content_hashes(paths)) == expected, where
        assert list(content_hashes(paths)) == expected, where

    places = [place for place, byte in enumerate(whole) if byte or place % 64 == 0]
    for place in places[::8]:
        for bit in (0, 3, 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            check(damaged, (place, bit))
    for length in range(0, len(whole), 200):
        check(whole[:length], length)
"""


def python(program: str, *arguments: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def test_no_flipped_bit_and_no_cut_gives_a_wrong_hash(tmp_path: Path) -> None:
    put_many(tmp_path / "data", 4)
    process = python(FLIPPER, tmp_path / "data")
    try:
        _, complaint = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail("hangs")
    assert (process.returncode, complaint) == (0, "")


def test_damage_that_sqlite_quotes_in_bytes_that_are_no_text(
    data: list[Path], index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = hashes(data)
    whole = index.read_bytes()
    assert whole.count(b"CREATE TABLE files") == 1
    put(index, whole.replace(b"CREATE TABLE files", b"CREATE TABLE \xff\n\x1b[H"))
    assert hashes(data) == expected
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].getMessage().isprintable()


def test_a_row_that_is_not_what_it_was_is_not_believed(data: list[Path], index: Path) -> None:
    expected = hashes(data)
    for column, value in [("sha256", b"\0" * 32), ("sha256", None), ("seal", None), ("seal", "x")]:
        with closing(sqlite3.connect(index)) as connection, connection:
            connection.execute(f"UPDATE files SET {column} = ?", (value,))
        assert hashes(data) == expected


def test_a_row_of_another_file_is_not_believed(data: list[Path], index: Path) -> None:
    expected = hashes(data)
    with closing(sqlite3.connect(index)) as connection, connection:
        connection.execute(
            "UPDATE files SET (sha256, seal) = (SELECT sha256, seal FROM files WHERE rowid = 1)"
        )
    assert hashes(data) == expected


# --- several processes, and kills

WORKER = """
    import hashlib, logging, sys, time
    from pathlib import Path
    from tlcli.images import content_hashes, hashing

    logging.basicConfig(level=logging.INFO)
    hashing._now_ns = lambda: time.time_ns() + 10**13
    hashing.CHUNK = 16
    paths = sorted(Path(sys.argv[1]).iterdir())
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    for _ in range(3):
        assert list(content_hashes(paths)) == expected
"""


@pytest.mark.parametrize("damage", [None, garbage])
def test_processes_share_an_index(
    tmp_path: Path, index: Path, damage: Callable[[Path], None] | None
) -> None:
    put_many(tmp_path / "data", 300)
    if damage:
        index.parent.mkdir()
        damage(index)
    processes = [python(WORKER, tmp_path / "data") for _ in range(3)]
    complaints = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], complaints
    if not damage:
        assert complaints == ["", "", ""]
        assert len(rows(index)) == 300


KILLED = """
    import os, signal, sqlite3, sys, time
    from pathlib import Path
    from tlcli.images import content_hashes, hashing

    class Killed(sqlite3.Connection):
        def execute(self, statement, *arguments):
            if statement == hashing.DROP_OLDEST:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().execute(statement, *arguments)

    def connect(*arguments, **options):
        connection = real(*arguments, factory=Killed, **options)
        connection.execute("PRAGMA cache_size = 1")
        return connection

    real, sqlite3.connect = sqlite3.connect, connect
    hashing._now_ns = lambda: time.time_ns() + 10**13
    list(content_hashes(sorted(Path(sys.argv[1]).iterdir())))
"""


def test_a_kill_in_the_middle_of_recording_loses_nothing_else(
    tmp_path: Path, index: Path, caplog: pytest.LogCaptureFixture, opened: list[str]
) -> None:
    data = put_many(tmp_path / "data", 100)
    more = put_many(tmp_path / "more", 400)
    hashes(data)
    process = python(KILLED, tmp_path / "more")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    journal = index.with_name("hashes.sqlite-journal")
    assert journal.stat().st_size > 0, "nothing was written before the kill: the test is void"
    expected = truth([*data, *more])
    opened.clear()
    assert hashes([*data, *more]) == expected
    assert len(opened) == 400
    assert not caplog.records
    assert len(rows(index)) == 500
    assert not journal.exists()


def test_an_index_that_nobody_asks_makes_no_file(index: Path) -> None:
    Index(index).close()
    assert not index.parent.exists()
