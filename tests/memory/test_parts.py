"""The files of kept rows: shared between rounds, rewritten when an image is forgotten."""

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from tests.memory.test_memory import (
    KEEPING,
    NUMBERS,
    WIDTH,
    assert_whole,
    by_class,
    examples,
    forget,
    kept_of,
    key,
    learn,
    members,
    moments_of,
    nothing,
    picture,
    pictures,
    vector,
)
from tlcli import files, memory, runs
from tlcli.errors import RunError, StorageError
from tlcli.features import Vectors
from tlcli.manifest import Manifest
from tlcli.memory import parts
from tlcli.runs import Round

MANIFEST = Manifest(
    round=1,
    parent=None,
    command="pretrain",
    strategy=None,
    head="lda",
    head_options={},
    backbone="MobileNetV2",
    backbone_fingerprint="f" * 64,
    projection=None,
    classes=(),
    memory="moments",
    memory_sha256="0" * 64,
    arithmetic=("openvino 0",),
    decoder=("pillow 0",),
    exact=True,
    config={},
    versions={},
    created="2026-01-01T00:00:00+00:00",
)


def round_of(folder: Path) -> Round:
    """A round of the files that are in a folder."""
    hashes = {path.name: files.sha256(path) for path in folder.iterdir()}
    return Round(folder, replace(MANIFEST, files=hashes))


def saved(state: memory.Memory, folder: Path) -> Round:
    folder.mkdir(exist_ok=True)
    memory.save(state, folder)
    return round_of(folder)


class Rounds:
    """Saves a memory and loads it again, a folder each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[Round] = []

    def __call__(self, state: memory.Memory) -> memory.Memory:
        self.entries.append(saved(state, self.folder / f"{len(self.entries):04d}"))
        found = memory.load(self.entries[-1])
        assert_whole(found)
        return found

    def files(self, number: int = -1) -> dict[str, Path]:
        """Name → path of the files of kept rows in a round."""
        folder = self.entries[number].folder
        return {path.name: path for path in sorted(folder.glob("*-*.h5"))}

    def inodes(self, number: int = -1) -> list[int]:
        return [path.stat().st_ino for path in self.files(number).values()]

    def rows(self, number: int = -1) -> list[int]:
        """How many rows each file has."""
        return [len(part.keys) for part in memory.load(self.entries[number]).sources.parts]

    def assert_intact(self) -> None:
        assert [entry.damages() for entry in self.entries] == [[]] * len(self.entries)


@pytest.fixture
def rounds(tmp_path: Path) -> Rounds:
    return Rounds(tmp_path)


@pytest.mark.parametrize("setting", KEEPING)
def test_a_round_shares_what_it_still_keeps_and_writes_what_is_new(
    rounds: Rounds, setting: str
) -> None:
    state = rounds(learn(nothing(setting), members(range(12), "Cat")))
    before = rounds.inodes()
    state = rounds(learn(state, members(range(12), "red panda")))
    assert list(rounds.files()) == [f"{setting}-0001.h5", f"{setting}-0002.h5"]
    assert rounds.inodes()[:1] == before
    assert [path.stat().st_nlink for path in rounds.files().values()] == [2, 1]
    rounds(learn(state, members(range(12), "キツネ")))
    assert [path.stat().st_nlink for path in rounds.files().values()] == [3, 2, 1]
    assert rounds.rows() == ([4, 4, 4] if setting == "features" else [2, 2, 2])
    rounds.assert_intact()


@pytest.mark.parametrize("setting", KEEPING)
def test_a_round_needs_no_other_round(rounds: Rounds, setting: str) -> None:
    state = rounds(learn(nothing(setting), range(12)))
    rounds(learn(state, range(12, 20)))
    shutil.rmtree(rounds.entries[0].folder)
    assert_whole(state)
    assert_whole(memory.load(rounds.entries[1]))


@pytest.mark.parametrize(
    "number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES, errno.ENOSYS]
)
@pytest.mark.parametrize("setting", KEEPING)
def test_where_links_are_impossible_files_are_copied(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, setting: str, number: int
) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    state = rounds(learn(nothing(setting), members(range(12), "Cat")))
    monkeypatch.setattr(os, "link", refuse)
    rounds(learn(state, members(range(12), "red panda")))
    old, new = (rounds.files(number)[f"{setting}-0001.h5"] for number in (0, 1))
    assert old.read_bytes() == new.read_bytes()
    assert old.stat().st_nlink == new.stat().st_nlink == 1
    assert sorted(path.name for path in new.parent.iterdir()) == [
        f"{setting}-0001.h5",
        f"{setting}-0002.h5",
        "memory.h5",
    ]


def test_a_copy_that_does_not_fit_is_a_storage_error(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = rounds(learn(nothing("features"), range(12)))
    state = forget(state, [])

    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(shutil, "copyfileobj", refuse)
    (rounds.folder / "next").mkdir()
    with pytest.raises(StorageError, match="features-0001"):
        memory.save(state, rounds.folder / "next")
    assert [path.name for path in (rounds.folder / "next").iterdir()] == ["memory.h5"]


def test_a_file_that_vanished_is_damage_of_the_run(rounds: Rounds) -> None:
    state = rounds(learn(nothing("features"), range(12)))
    rounds.files()["features-0001.h5"].unlink()
    with pytest.raises(RunError, match="features-0001"):
        saved(state, rounds.folder / "next")


def traces(number: int) -> list[bytes]:
    return [bytes.fromhex(key(number)), vector(number).tobytes(), picture(number).tobytes()]


@pytest.mark.parametrize("gone", [[0], [1, 2, 5], range(20), members(range(20), "Cat")])
@pytest.mark.parametrize("setting", KEEPING)
def test_nothing_of_a_forgotten_image_is_in_the_files(
    rounds: Rounds, setting: str, gone: Sequence[int]
) -> None:
    state = rounds(learn(learn(nothing(setting, 9), range(12)), range(12, 20)))
    everything = b"".join(path.read_bytes() for path in rounds.entries[0].folder.iterdir())
    seen = 3 if setting == "exemplars" else 2
    assert all(trace in everything for number in gone for trace in traces(number)[:seen])
    rounds(forget(state, gone))
    for path in rounds.entries[1].folder.iterdir():
        content = path.read_bytes()
        assert not any(trace in content for number in gone for trace in traces(number))
    rounds.assert_intact()


@pytest.mark.parametrize("setting", KEEPING)
def test_dropped_exemplars_and_features_leave_the_files(rounds: Rounds, setting: str) -> None:
    state = rounds(learn(nothing(setting, 4), range(20)))
    smaller = {"features": ("exemplars", 3), "exemplars": ("exemplars", 2)}[setting]
    state = rounds(state.changed(*smaller, examples([]), pictures))
    content = b"".join(path.read_bytes() for path in rounds.files().values())
    for number in range(20):
        assert (vector(number).tobytes() in content) == (key(number) in kept_of(state).hashes)


@pytest.mark.parametrize("setting", KEEPING)
def test_only_files_with_a_forgotten_image_are_written_again(rounds: Rounds, setting: str) -> None:
    state = nothing(setting)
    for name in ("Cat", "red panda", "キツネ"):
        state = rounds(learn(state, members(range(12), name)))
    gone = by_class(kept_of(state))["red panda"][0]
    rounds(forget(state, [gone]))
    first, _, third = rounds.inodes(-2)
    assert rounds.inodes()[:2] == [first, third]
    assert rounds.inodes()[2] not in rounds.inodes(-2)


@pytest.mark.parametrize("setting", KEEPING)
def test_forgetting_everything_leaves_no_file(rounds: Rounds, setting: str) -> None:
    state = rounds(learn(nothing(setting), range(12)))
    state = rounds(forget(state, range(12)))
    assert rounds.files() == {}
    rounds(learn(state, range(5)))


def of_rows(monkeypatch: pytest.MonkeyPatch, setting: str, full: int, most: int = 32) -> None:
    """Files are full with so many rows."""
    row_bytes = 4 * WIDTH + (12 if setting == "exemplars" else 0)
    monkeypatch.setattr(parts, "FILE_BYTES", full * row_bytes)
    monkeypatch.setattr(parts, "MOST_FILES", most)


@pytest.mark.parametrize("setting", KEEPING)
def test_rows_fill_several_files_class_by_class(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    of_rows(monkeypatch, setting, 4)
    state = rounds(learn(nothing(setting, 4), range(12)))
    assert rounds.rows() == [4, 4, 4]
    rounds(forget(state, members(range(12), "Cat")))
    assert rounds.rows() == [4, 4]
    assert rounds.inodes() == rounds.inodes(0)[1:]


@pytest.mark.parametrize("setting", KEEPING)
def test_too_many_small_files_become_one(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    of_rows(monkeypatch, setting, 10, most=4)
    state = rounds(learn(nothing(setting, 50), range(10)))
    for number in range(10, 13):
        state = rounds(learn(state, [number]))
    assert rounds.rows() == [10, 1, 1, 1]
    state = rounds(learn(state, [13]))
    assert rounds.rows() == [10, 4]
    assert rounds.inodes()[0] == rounds.inodes(0)[0]
    for number in range(14, 24):
        state = rounds(learn(state, [number]))
        assert len(rounds.rows()) <= 4
    rounds.assert_intact()


def test_files_that_are_not_small_are_left_as_they_are(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_rows(monkeypatch, "features", 4, most=2)
    state = rounds(learn(nothing("features"), range(12)))
    assert rounds.rows() == [4, 4, 4]
    rounds(learn(state, [12]))
    assert rounds.inodes()[:3] == rounds.inodes(0)


def test_a_row_larger_than_a_file_has_one_for_itself(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FILE_BYTES", 1)
    rounds(learn(nothing("exemplars"), range(5)))
    assert rounds.rows() == [1] * 5


def test_rows_that_were_computed_anew_are_not_shared(rounds: Rounds) -> None:
    state = rounds(learn(nothing("exemplars"), range(12)))
    turned = kept_of(state).vectors[:][:, ::-1].copy()
    kept = replace(kept_of(state), vectors=Vectors.of(turned))
    entry = saved(replace(state, kept=kept), rounds.folder / "next")
    np.testing.assert_array_equal(kept_of(memory.load(entry)).vectors[:], turned)


def test_exemplars_that_change_their_order_are_shared(rounds: Rounds) -> None:
    state = rounds(learn(nothing("exemplars", 2), [0, 3]))
    order = kept_of(state).hashes[::-1]
    entry = saved(replace(state, kept=kept_of(state).take([1, 0])), rounds.folder / "next")
    assert kept_of(memory.load(entry)).hashes == order
    assert (entry.folder / "exemplars-0001.h5").stat().st_nlink == 2


def test_pixels_of_an_image_that_is_no_exemplar_are_not_known(rounds: Rounds) -> None:
    state = rounds(learn(nothing("exemplars", 1), range(12)))
    other = next(number for number in range(12) if key(number) not in kept_of(state).hashes)
    with pytest.raises(KeyError):
        state.pixels_of([key(other)])
    assert state.pixels_of([]).size == 0


def test_pixels_come_from_files_and_from_memory(rounds: Rounds) -> None:
    state = learn(rounds(learn(nothing("exemplars", 2), range(6))), range(30, 36))
    assert state.sources.fresh and state.sources.parts
    assert_whole(state)
    mixed = kept_of(state).hashes[::-2]
    np.testing.assert_array_equal(state.pixels_of(mixed), pictures(mixed))
    assert {NUMBERS[name] for name in mixed}


@pytest.mark.parametrize("setting", KEEPING)
def test_two_runs_together_are_saved(rounds: Rounds, setting: str) -> None:
    first = rounds(learn(nothing(setting), members(range(12), "Cat")))
    second = rounds(learn(nothing(setting), members(range(12), "red panda")))
    both = rounds(first.merged(second))
    assert set(kept_of(both).hashes) == {*kept_of(first).hashes, *kept_of(second).hashes}
    assert [path.stat().st_nlink for path in rounds.files().values()] == [2, 2]
    rounds.assert_intact()


@pytest.mark.parametrize("setting", KEEPING)
def test_rounds_of_a_run_share_files(tmp_path: Path, setting: str) -> None:
    state = learn(nothing(setting), members(range(12), "Cat"))
    with runs.creating(tmp_path / "run", 0) as writer, writer.staging() as staged:
        memory.save(state, staged)
        first = writer.commit(staged, MANIFEST)
    state = learn(memory.load(first), members(range(12), "red panda"))
    with runs.extending(tmp_path / "run", 0) as writer, writer.staging() as staged:
        memory.save(state, staged)
        second = writer.commit(staged, replace(MANIFEST, round=2, parent=1))
    shared = second.folder / f"{setting}-0001.h5"
    assert shared.samefile(first.folder / f"{setting}-0001.h5")
    assert first.damages() == second.damages() == []
    assert_whole(memory.load(runs.open_run(tmp_path / "run").round()))


def test_moments_are_those_of_the_images_that_are_kept(rounds: Rounds) -> None:
    state = rounds(learn(nothing("features"), range(12)))
    state = rounds(forget(learn(state, range(12, 20)), [3, 13]))
    assert moments_of(kept_of(state)).digest == state.digest
