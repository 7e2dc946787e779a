"""Changes of an index, as commands on the tiny pictures and as what lies below them.

SQLite writes its files by itself: its steps are not among those that are counted, and what is left
of them after a power failure cannot be imagined here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import indexes
from tests.support.scenarios import Scenario, World, must
from tlcli import retrieval
from tlcli.retrieval import approximate, building

ROWS = indexes.descriptors(60)


def look_at_index(place: Path) -> Any:
    """Images with their rows, and how many rows are of no image."""
    if not (place / "run" / "index" / "records.sqlite").exists():
        return None
    with retrieval.open_index(place / "run") as index:
        removed = sum(int((~rows.live).sum()) for rows in index.rows)
    return indexes.contents(place / "run"), removed


def look_at_structure(place: Path) -> Any:
    """Images, and up to which one the approximate index knows them; it can be loaded."""
    with retrieval.open_index(place / "run") as index:
        loaded = approximate.load(index)
        assert (loaded is None) == ("approximate" not in index.facts)
        return indexes.contents(place / "run"), None if loaded is None else loaded.last


def indexed_run(world: World, place: Path) -> None:
    """A run whose index has two classes, of which some images were removed."""
    must("pretrain", world.data / "first", "--out", place / "run", "--no-keras-model")
    must("index", "add", place / "run", world.data / "first")
    must("index", "remove", place / "run", "--images", world.data / "first" / "apple" / "000.png")


def start(world: World, place: Path) -> None:
    """Forty imagined images, ten of which were removed."""
    (place / "run").mkdir()
    indexes.add(place / "run", range(40), ROWS[:40])
    indexes.remove(place / "run", range(10))


def added(place: Path) -> None:
    """Twenty more, unless they are there; as `index add` does."""
    with retrieval.writing(place / "run", 0) as writer:
        held = writer.records.of_hashes([indexes.image(40)[0]])
    if not held:
        indexes.add(place / "run", range(40, 60), ROWS[40:])


def removed(place: Path) -> None:
    """Every second one."""
    indexes.remove(place / "run", range(0, 40, 2))


def compacted(place: Path) -> None:
    """Rows of images alone."""
    with retrieval.writing(place / "run", 0) as writer:
        writer.compact()


def built(place: Path) -> None:
    """An approximate index of all, by one thread: a forked process has no others."""
    import faiss

    faiss.omp_set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "_FIRST_CELLS", 4)
        with retrieval.writing(place / "run", 0) as writer:
            retrieval.build(writer, lambda *_: None)


def built_anew(world: World, place: Path) -> None:
    """One that does not know the last images."""
    start(world, place)
    built(place)
    added(place)


def _rows(name: str, act: Callable[[Path], None], look: Any = look_at_index) -> Scenario:
    return Scenario(name, start, (), look, act=act)


ROWS_OF_INDEX = {
    scenario.name: scenario
    for scenario in (
        _rows("rows added", added),
        _rows("rows removed", removed),
        _rows("rows compacted", compacted),
        _rows("a first structure", built, look_at_structure),
        Scenario("a later structure", built_anew, (), look_at_structure, act=built),
    )
}

_SKY = "../data/first/sky"

INDEX = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "index add", indexed_run, ("index", "add", "run", "../data/second"), look_at_index
        ),
        Scenario(
            "index remove", indexed_run, ("index", "remove", "run", "--images", _SKY), look_at_index
        ),
        Scenario("index optimize", indexed_run, ("index", "optimize", "run"), look_at_index),
    )
}

UNSEEN = {*INDEX, *ROWS_OF_INDEX}
"""SQLite writes what only it sees."""
