"""An index of a stranger: what cannot be meant in its records is one line and exit code 5."""

import os
import sqlite3
from pathlib import Path

import pytest

from tests.support import indexes
from tests.support.mutations import VALUES
from tlcli import retrieval
from tlcli.errors import RunError

STORABLE = [
    value
    for name, value in VALUES.items()
    if isinstance(value, str | float | None) and name != "a lone surrogate"
]
"""SQLite takes no lone surrogate."""

COLUMNS = (
    *(("about", "value", key) for key in ("format", "fingerprint", "arithmetic", "width")),
    ("about", "value", "descriptor"),
    *(("files", column, None) for column in ("name", "rows")),
    *(("images", column, None) for column in ("sha256", "label", "path", "file", "row")),
    ("removed", "row", None),
)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A run whose index has two segments, an image removed, and tables of any values."""
    for seed in (0, 1):
        numbers = range(20 * seed, 20 * seed + 20)
        indexes.add(tmp_path, numbers, indexes.descriptors(20, seed))
    indexes.remove(tmp_path, [3])
    path = records_of(tmp_path)
    with sqlite3.connect(path) as database:
        for name in ("about", "files", "images", "removed"):
            database.execute(f"CREATE TABLE loose AS SELECT * FROM {name}")
            database.execute(f"DROP TABLE {name}")
            database.execute(f"ALTER TABLE loose RENAME TO {name}")
    database.close()
    return tmp_path


def records_of(run: Path) -> Path:
    (path,) = (run / "index").glob("*.sqlite")
    return path


def used(run: Path) -> None:
    """All that commands ask of an index."""
    with retrieval.open_index(run) as found:
        found.records.entries()
        found.records.labels()
        found.records.last()
        for rows in found.rows:
            for row in range(len(rows.live)):
                if rows.live[row]:
                    found.records.at(rows.id, row)


def change(run: Path, statement: str, values: tuple[object, ...]) -> None:
    database = sqlite3.connect(records_of(run))
    with database:
        database.execute(statement, values)
    database.close()


def test_loose_tables_with_good_values_are_read(index: Path) -> None:
    used(index)


@pytest.mark.parametrize(
    "value",
    [
        *STORABLE,
        *(0, -1, 10**9, 2**62 + 1, b"bytes", "9" * 5000, "²", "../lock"),
    ],
    ids=lambda value: ascii(value)[:20],
)
@pytest.mark.parametrize(("table", "column", "key"), COLUMNS)
def test_what_cannot_be_meant_is_a_run_error(
    index: Path, table: str, column: str, key: str | None, value: object
) -> None:
    where = f"key = {key!r}" if key else f"rowid = (SELECT min(rowid) FROM {table})"
    change(index, f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))
    try:
        used(index)
    except RunError as error:
        assert str(index / "index") in str(error)


@pytest.mark.parametrize("key", ["format", "fingerprint", "arithmetic", "width", "descriptor"])
def test_a_fact_that_is_missing_is_a_run_error(index: Path, key: str) -> None:
    change(index, "DELETE FROM about WHERE key = ?", (key,))
    with pytest.raises(RunError, match="is damaged"):
        used(index)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("matrix", "../../x.h5"),
        ("matrix", "x.h5"),
        ("approximate", "/etc/passwd"),
        ("approximate_cells", "0"),
        ("approximate_last", "many"),
    ],
)
def test_a_fact_that_cannot_be_meant_is_a_run_error(index: Path, key: str, value: str) -> None:
    change(index, "INSERT INTO about VALUES (?, ?)", (key, value))
    with pytest.raises(RunError, match="is damaged"):
        used(index)


@pytest.mark.parametrize("suffix", [".h5", ".sqlite"])
def test_links_and_pipes_are_refused(index: Path, suffix: str) -> None:
    path = next((index / "index").glob(f"*{suffix}"))
    path.rename(index / path.name)
    path.symlink_to(index / path.name)
    with pytest.raises(RunError, match="symbolic link"):
        used(index)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RunError, match=r"regular file|something else"):
        used(index)
