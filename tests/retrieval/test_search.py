"""The nearest images: equal to a comparison with every one, whatever happened to the index."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support import indexes
from tlcli import retrieval
from tlcli.errors import RunError, RunLocked, UsageError
from tlcli.features import Kind
from tlcli.retrieval import Neighbours, Searcher, approximate, building, rows, writer

ROWS = indexes.descriptors(600)
QUERIES = indexes.descriptors(40, seed=1)


def found(run: Path, count: int, exact: bool = True) -> list[list[str]]:
    with retrieval.open_index(run) as index:
        hits = Searcher.of(index, exact).search(QUERIES, count)
        return [[hit.entry.path for hit in answer] for answer in hits]


def expected(numbers: list[int], count: int) -> list[list[str]]:
    similarities = QUERIES.astype(np.float64) @ ROWS[numbers].astype(np.float64).T
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
    return [[indexes.image(numbers[place])[2] for place in row] for row in order]


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose index has three segments of at most 256 rows; copied, never changed."""
    run = tmp_path_factory.mktemp("segments")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "SEGMENT_ROWS", 256)
        for start, end in ((0, 250), (250, 300), (300, 600)):
            indexes.add(run, range(start, end), ROWS[start:end])
    return run


@pytest.fixture
def small(segments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, read 100 rows at a time."""
    monkeypatch.setattr(writer, "SEGMENT_ROWS", 256)
    monkeypatch.setattr(rows, "READ_ROWS", 100)
    return Path(shutil.copytree(segments, tmp_path, dirs_exist_ok=True))


def test_the_nearest_of_all_are_found(small: Path) -> None:
    assert found(small, 7) == expected(list(range(600)), 7)
    assert [len(paths) for paths in found(small, 1000)] == [600] * 40


def test_a_class_without_a_direction_takes_no_image_from_others(small: Path) -> None:
    without = 8 * np.arange(5) + 6000
    with retrieval.writing(small, 0) as index:
        images = [(indexes.image(int(n))[0], "nowhere", f"/photos/{n}.jpg") for n in without]
        index.add(images, iter([np.zeros((5, indexes.WIDTH), np.float32)]))
    with retrieval.open_index(small) as opened:
        means = Neighbours.of(Searcher.of(opened, exact=True), "means")
        logits = means.logits(ROWS)
    assert np.isfinite(logits).all()
    said = np.array(means.classes)[logits.argmax(axis=1)]
    right = said == [indexes.image(number)[1] for number in range(600)]
    assert right.mean() > 0.9


def test_rows_that_stay_on_disk_are_compared_alike(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "KEPT_BYTES", 0)
    assert found(small, 7) == expected(list(range(600)), 7)


def test_removed_images_are_not_found_and_the_others_are(small: Path) -> None:
    gone = list(range(0, 600, 3))
    indexes.remove(small, gone)
    left = [number for number in range(600) if number % 3]
    assert found(small, 7) == expected(left, 7)
    before = indexes.contents(small)
    with retrieval.writing(small, 0) as writer:
        writer.compact()
    assert indexes.contents(small) == before
    assert found(small, 7) == expected(left, 7)
    with retrieval.open_index(small) as index:
        assert len(index.rows) == 2
        assert all(rows.live.all() for rows in index.rows)
    assert len(list((small / "index").glob("*.h5"))) == 2


def test_an_image_comes_back_after_it_was_removed(small: Path) -> None:
    indexes.remove(small, [5])
    indexes.add(small, [5], ROWS[5:6])
    assert sorted(map(sorted, found(small, 600))) == sorted(
        map(sorted, expected(list(range(600)), 600))
    )


def test_similarities_are_products_of_the_kept_rows(small: Path) -> None:
    with retrieval.open_index(small) as index:
        (hits,) = Searcher.of(index, exact=True).search(ROWS[17:18], 2)
    assert hits[0].entry.path == "/photos/17.jpg"
    assert hits[0].similarity == pytest.approx(1, abs=1e-3)
    other = int(hits[1].entry.path.split("/")[2].removesuffix(".jpg"))
    assert hits[1].similarity == ROWS[other].astype(np.float64) @ ROWS[17].astype(np.float64)


def test_a_reader_keeps_the_state_that_it_opened(small: Path) -> None:
    with retrieval.open_index(small) as index:
        indexes.remove(small, range(0, 300))
        with retrieval.writing(small, 0) as writer:
            writer.compact()
        hits = Searcher.of(index, exact=True).search(QUERIES, 7)
        paths = [[hit.entry.path for hit in answer] for answer in hits]
    assert paths == expected(list(range(600)), 7)
    assert found(small, 7) == expected(list(range(300, 600)), 7)


def test_one_writer_at_a_time(small: Path) -> None:
    with retrieval.writing(small, 0), pytest.raises(RunLocked), retrieval.writing(small, 0):
        pass


def test_descriptors_of_another_space_are_refused(small: Path) -> None:
    with retrieval.open_index(small) as index:
        index.require_space(indexes.SPACE)
        for space, word in (
            (replace(indexes.SPACE, fingerprint="backbone-b"), "backbone"),
            (replace(indexes.SPACE, kind=Kind("keras 4567", "decoder 1")), "arithmetic"),
            (replace(indexes.SPACE, kind=Kind("openvino 0123", "decoder 2")), "decoder"),
        ):
            with pytest.raises(RunError, match=word):
                index.require_space(space)


def test_no_index_and_an_empty_one_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="index add"), retrieval.open_index(tmp_path):
        pass
    with retrieval.writing(tmp_path, 0):
        pass
    with pytest.raises(UsageError, match="holds none"), retrieval.open_index(tmp_path):
        pass


@pytest.mark.parametrize("suffix", [".h5", ".sqlite"])
def test_damage_is_noticed(small: Path, suffix: str) -> None:
    for path in (small / "index").glob(f"*{suffix}"):
        content = bytearray(path.read_bytes())
        for place in range(0, len(content), 512):
            content[place] ^= 0xFF
        path.write_bytes(content)
    with pytest.raises(RunError, match="index"):
        indexes.contents(small)


def test_a_missing_segment_and_a_newer_format_are_said(small: Path) -> None:
    with retrieval.writing(small, 0) as writer, writer.records.transaction():
        writer.records.set_about({"format": "2"})
    with pytest.raises(RunError, match="newer"):
        indexes.contents(small)
    with pytest.raises(RunError, match="newer"), retrieval.writing(small, 0):
        pass
    with closing(sqlite3.connect(small / "index" / "records.sqlite")) as database, database:
        database.execute("UPDATE about SET value = '1' WHERE key = 'format'")
    next((small / "index").glob("*.h5")).unlink()
    with pytest.raises(RunError, match="missing"):
        indexes.contents(small)
    with pytest.raises(RunError, match="missing"), retrieval.writing(small, 0):
        pass


@pytest.fixture(scope="module")
def optimized(segments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an approximate index; copied, never changed."""
    pytest.importorskip("faiss")
    run = Path(shutil.copytree(segments, tmp_path_factory.mktemp("optimized") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "_FIRST_CELLS", 4)
        with retrieval.writing(run, 0) as index:
            assert retrieval.build(index, lambda *_: None) >= 0.95
    return run


@pytest.fixture
def large(optimized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is large enough for an approximate one."""
    monkeypatch.setattr(approximate, "EXACT_UNTIL", 100)
    monkeypatch.setattr(building, "_FIRST_CELLS", 4)
    monkeypatch.setattr(rows, "READ_ROWS", 100)
    return Path(shutil.copytree(optimized, tmp_path, dirs_exist_ok=True))


def test_more_than_there_are_may_be_asked_for(large: Path) -> None:
    with retrieval.open_index(large) as index:
        (hits,) = Searcher.of(index, exact=False).search(QUERIES[:1], 10**12)
    assert 10 <= len(hits) <= 600


def test_it_is_fresh_while_it_knows_enough(large: Path) -> None:
    """Which is found out without opening it."""

    def fresh() -> bool:
        with retrieval.writing(large, 0) as writer:
            return approximate.is_fresh(writer.records)

    assert fresh()
    indexes.remove(large, range(0, 120))
    assert fresh()
    indexes.remove(large, [200])
    assert not fresh()
    with retrieval.writing(large, 0) as writer:
        retrieval.build(writer, lambda *_: None)
    assert fresh()
    next((large / "index").glob("approximate-*")).unlink()
    assert not fresh()


def recall(run: Path, numbers: list[int]) -> float:
    pairs = zip(found(run, 10, exact=False), expected(numbers, 10), strict=True)
    return float(np.mean([len(set(mine) & set(true)) / 10 for mine, true in pairs]))


def test_the_approximate_index_finds_nearly_all_and_ranks_exactly(large: Path) -> None:
    assert recall(large, list(range(600))) >= 0.9
    with retrieval.open_index(large) as index:
        assert Searcher.of(index, exact=False).approximate is not None
        hits = Searcher.of(index, exact=False).search(QUERIES, 10)
    for query, answer in zip(QUERIES, hits, strict=True):
        assert [hit.similarity for hit in answer] == sorted(
            (hit.similarity for hit in answer), reverse=True
        )
        number = int(answer[0].entry.path.split("/")[2].removesuffix(".jpg"))
        assert answer[0].similarity == ROWS[number].astype(np.float64) @ query.astype(np.float64)


def test_what_changed_since_it_was_built_counts(large: Path) -> None:
    more = indexes.descriptors(50, seed=1)[:40]
    indexes.add(large, range(1000, 1040), more)
    indexes.remove(large, range(0, 600, 3))
    with retrieval.open_index(large) as index:
        searcher = Searcher.of(index, exact=False)
        assert searcher.approximate is not None
        assert searcher.approximate.stale == pytest.approx(240 / 600)
        hits = searcher.search(QUERIES, 10)
    gone = {indexes.image(number)[2] for number in range(0, 600, 3)}
    for number, answer in enumerate(hits):
        assert answer[0].entry.path == f"/photos/{1000 + number}.jpg"
        assert not gone & {hit.entry.path for hit in answer}


def test_a_damaged_approximate_index_is_done_without(
    large: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = (large / "index").glob("approximate-*")
    path.write_bytes(path.read_bytes()[:-1])
    assert found(large, 7, exact=False) == expected(list(range(600)), 7)
    assert "optimize" in caplog.text


def test_one_that_finds_too_little_is_not_published(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(building, "_shares", lambda *_: np.full(1000, 0.94))
    with retrieval.writing(small, 0) as writer, pytest.raises(UsageError, match=r"94\.0%"):
        retrieval.build(writer, lambda *_: None)
    assert not list((small / "index").glob("approximate-*"))


def test_what_is_measured_on_some_images_has_to_hold_for_all(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    by_chance = np.repeat([1.0, 0.6], [180, 20])
    by_cells = {8: by_chance, 16: np.ones(200)}
    monkeypatch.setattr(building, "_shares", lambda it, *_: by_cells[it.structure.nprobe])
    assert by_chance.mean() > building.LEAST_RECALL
    with retrieval.writing(small, 0) as writer:
        assert retrieval.build(writer, lambda *_: None) == 1.0
        assert writer.index is not None
        assert writer.index.facts["approximate_cells"] == "16"


def test_without_faiss_a_large_index_says_what_it_costs(
    small: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(approximate, "EXACT_UNTIL", 100)
    monkeypatch.setattr(approximate, "available", lambda: False)
    assert found(small, 7, exact=False) == expected(list(range(600)), 7)
    assert "all 600 images" in caplog.text
    assert "tlcli[index]" in caplog.text
