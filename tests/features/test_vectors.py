"""A matrix on disk gives the same rows as one in memory, also when its file is deleted."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.arrays import Floats
from tlcli.errors import StorageError
from tlcli.features import Vectors
from tlcli.features.vectors import InMemory, OnDisk

WIDTH = 5
ROWS = np.random.default_rng(0).normal(0, 1, (40, WIDTH)).astype(np.float32)
BLOCK = np.repeat([0, 1, 2, 0], [12, 9, 11, 8])
ROW = np.concatenate([np.arange(12), np.arange(9)[::-1], np.arange(11), np.arange(12, 20)])


def on_disk(folder: Path, number: int, rows: Floats) -> OnDisk:
    path = folder / f"{number}.bin"
    path.write_bytes(b"head" * 3 + rows.tobytes())
    with path.open("rb") as stream:
        return OnDisk(path, stream.fileno(), 12)


def block_of(number: int) -> Floats:
    rows = np.zeros((20, WIDTH), np.float32)
    rows[ROW[number == BLOCK]] = ROWS[number == BLOCK]
    return rows


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    """The matrix ROWS, in two files and an array; row order differs from that of the blocks."""
    folder = tmp_path_factory.mktemp("vectors")
    blocks = on_disk(folder, 0, block_of(0)), InMemory(block_of(1)), on_disk(folder, 2, block_of(2))
    return Vectors(WIDTH, blocks, BLOCK, ROW)


BOUND = st.none() | st.integers(-45, 45)
SLICES = st.builds(slice, BOUND, BOUND, st.none() | st.sampled_from([1, 2, 7, -1, -3]))
MASKS = st.lists(st.booleans(), min_size=40, max_size=40).map(np.array)
INDICES = st.lists(st.integers(-40, 39), max_size=60).map(lambda rows: np.array(rows, np.int64))


@given(chosen=SLICES | MASKS | INDICES)
def test_every_index_gives_what_numpy_gives(vectors: Vectors, chosen: slice | NDArray[Any]) -> None:
    expected = ROWS[chosen]
    found = vectors[chosen]
    assert (found.dtype, found.shape) == (np.dtype(np.float32), expected.shape)
    assert found.tobytes() == expected.tobytes()
    taken = vectors.take(chosen)
    assert (len(taken), taken.shape, taken.size) == (len(expected), expected.shape, expected.size)
    assert taken[:].tobytes() == expected.tobytes()


@given(first=INDICES, data=st.data())
def test_a_take_of_a_take(vectors: Vectors, first: NDArray[np.int64], data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(first), max_size=len(first))))
    mask = mask.astype(bool)
    taken = vectors.take(first).take(mask).take(slice(1, None, 2))
    assert taken[:].tobytes() == ROWS[first][mask][1::2].tobytes()


def test_a_mask_of_another_length_is_refused(vectors: Vectors) -> None:
    with pytest.raises(IndexError):
        vectors[np.ones(39, bool)]
    with pytest.raises(IndexError):
        vectors.take(np.ones(41, bool))


def test_an_array_is_a_matrix_too() -> None:
    found = Vectors.of(ROWS)
    assert found.shape == (40, WIDTH)
    assert found[:].tobytes() == ROWS.tobytes()
    assert Vectors.of(ROWS[:0])[:].shape == (0, WIDTH)


def test_what_is_given_is_a_copy(vectors: Vectors) -> None:
    vectors[:][:] = 0
    assert vectors[:].tobytes() == ROWS.tobytes()
    array = ROWS.copy()
    Vectors.of(array)[:][:] = 0
    assert array.tobytes() == ROWS.tobytes()


def test_nothing_is_read_by_a_take_and_rows_that_follow_each_other_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = Vectors(WIDTH, (on_disk(tmp_path, 0, ROWS),), np.zeros(40, np.int32), np.arange(40))
    reads = []
    real = os.preadv

    def counting(descriptor: int, buffers: list[memoryview], place: int) -> int:
        reads.append(len(buffers[0]) // (4 * WIDTH))
        return real(descriptor, buffers, place)

    monkeypatch.setattr(os, "preadv", counting)
    taken = vectors.take(np.arange(40) % 10 < 5)
    assert reads == []
    assert taken[3:].tobytes() == ROWS[np.arange(40) % 10 < 5][3:].tobytes()
    assert reads == [2, 5, 5, 5]


def test_rows_arrive_whole_when_the_system_gives_them_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = Vectors(WIDTH, (on_disk(tmp_path, 0, ROWS),), np.zeros(40, np.int32), np.arange(40))
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda d, buffers, at: real(d, [buffers[0][:7]], at))
    assert vectors[:].tobytes() == ROWS.tobytes()


def test_a_deleted_file_stays_readable_and_is_closed_with_the_last_vectors(tmp_path: Path) -> None:
    block = on_disk(tmp_path, 0, ROWS)
    descriptor = block.descriptor
    vectors = Vectors(WIDTH, (block,), np.zeros(40, np.int32), np.arange(40))
    del block
    (tmp_path / "0.bin").unlink()
    taken = vectors.take(slice(5))
    del vectors
    assert taken[:].tobytes() == ROWS[:5].tobytes()
    del taken
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_file_that_was_cut_while_it_was_held_is_an_error(tmp_path: Path) -> None:
    vectors = Vectors(WIDTH, (on_disk(tmp_path, 0, ROWS),), np.zeros(40, np.int32), np.arange(40))
    os.truncate(tmp_path / "0.bin", 100)
    assert vectors[:4].tobytes() == ROWS[:4].tobytes()
    with pytest.raises(StorageError, match=r"0\.bin.*ends too early"):
        vectors[:]
