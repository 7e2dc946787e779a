"""An index after a kill: every image of a finished transaction, and no other."""

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import indexes
from tlcli import retrieval
from tlcli.retrieval import records

ROWS = indexes.descriptors(60)
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "sqlite3.connect", "os.link")
KILLED = 9


def added(run: Path) -> None:
    indexes.add(run, range(40, 60), ROWS[40:])


def removed(run: Path) -> None:
    indexes.remove(run, range(0, 40, 2))


def compacted(run: Path) -> None:
    with retrieval.writing(run, 0) as writer:
        writer.compact()


def killed_before(number: int, change: Callable[[Path], None], run: Path) -> bool:
    """Whether a child was killed before its file operation or statement of this number."""
    child = os.fork()
    if child == 0:
        _count_down(number)
        try:
            change(run)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == KILLED


def _count_down(number: int) -> None:
    left = [number]

    def step(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(KILLED)

    opened = records._connected

    def connected(path: Path, writes: bool) -> sqlite3.Connection:
        database = opened(path, writes)
        database.set_trace_callback(step)
        return database

    records._connected = connected
    sys.addaudithook(lambda event, _: step() if event in EVENTS else None)


@pytest.mark.parametrize("change", [added, removed, compacted])
def test_a_killed_change_is_there_as_a_whole_or_not_at_all(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    """Once more, it ends as if nothing had happened."""
    seen, number = set(), 0
    while True:
        number += 1
        run = tmp_path / str(number)
        run.mkdir()
        indexes.add(run, range(40), ROWS[:40])
        indexes.remove(run, range(10))
        before = indexes.contents(run)
        died = killed_before(number, change, run)
        after = indexes.contents(run)
        seen.add(len(after))
        if after == before:
            change(run)
        done = indexes.contents(run)
        assert done == after or after == before
        if change is added:
            assert len(done) == 50
        if change is removed:
            assert len(done) == 15
        with retrieval.writing(run, 0) as writer:
            writer.sweep()
            named = {name for _, name, _ in writer.records.files()}
        held = {path.name for path in (run / "index").glob("*.h5")}
        assert held == named
        if not died:
            break
    assert number > 10
    assert len(seen) == (1 if change is compacted else 2)
