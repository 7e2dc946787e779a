"""What the faults of the other files do not reach: locks, hashes, and what stands in for links."""

import contextlib
import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.crashes import Recorded
from tests.support.faults import Error, Signal, strike, strike_again
from tests.support.scenarios import World
from tests.support.storage_scenarios import SECOND, STORAGE, look_at_files, look_at_run, manifest
from tlcli import files, runs
from tlcli.errors import RunError, RunLocked, StorageError
from tlcli.files import drafts, paths
from tlcli.images.class_folders import copy_into
from tlcli.rounds import publication
from tlcli.runs import creating, extending, locking


@pytest.fixture
def place(world: World) -> Path:
    """With two rounds in it."""
    return world.reset(STORAGE["a dropped round"])


def test_a_run_has_one_writer(place: Path) -> None:
    path = place / "above" / "run"
    for enter in (extending, creating):
        with enter(path, 0), pytest.raises(RunLocked), extending(path, 0):
            pass
        with extending(path, 0), pytest.raises(RunLocked), enter(path, 0):
            pass


def test_every_file_is_compared_with_its_hash(place: Path) -> None:
    entry = runs.open_run(place / "above" / "run").round()
    for name in entry.manifest.files:
        content = bytearray((entry.folder / name).read_bytes())
        content[0] ^= 1
        (entry.folder / name).write_bytes(content)
        assert len(entry.damages()) == 1
        with pytest.raises(RunError, match=name):
            entry.file(name)
        content[0] ^= 1
        (entry.folder / name).write_bytes(content)
    assert entry.damages() == []


def test_a_round_that_finds_no_room_is_told_and_is_not_there(place: Path) -> None:
    def write(staged: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = place / "above" / "run"
    with extending(path, 0) as writer:
        before = writer.run.numbers()
        with pytest.raises(StorageError, match="No space left"):
            publication.commit(writer, manifest(9, SECOND), {}, write)
        assert writer.run.numbers() == before


def test_a_folder_in_which_a_run_is_begun_is_not_available(tmp_path: Path) -> None:
    path = tmp_path / "run"
    runs.require_available(path, 0)
    with creating(path, 0), pytest.raises(RunLocked):
        runs.require_available(path, 0)


def test_a_file_that_is_gone_is_said_to_be_missing_and_has_no_size(place: Path) -> None:
    entry = runs.open_run(place / "above" / "run").round()
    name = next(iter(entry.manifest.files))
    assert entry.bytes_of(name) > 0
    (entry.folder / name).unlink()
    assert entry.bytes_of(name) == 0
    assert entry.damages() == [f"{entry.folder / name} is missing"]


@pytest.mark.parametrize("part", ["state", "best", "description"])
def test_a_state_of_a_training_is_compared_with_its_hash(world: World, part: str) -> None:
    place, scenario = world.reset(STORAGE["a state"]), STORAGE["a state"]
    (path,) = place.glob("state/state.json" if part == "description" else f"state/{part}-*.h5")
    content = path.read_bytes()
    one, two = (np.float32(number).tobytes() for number in (1, 2))
    flipped = content.replace(b'"steps": 1', b'"steps": 3').replace(one * 300, two * 300)
    assert flipped != content
    path.write_bytes(flipped)
    with pytest.raises(RunError), world.at_place():
        scenario.look(place)


def test_a_draft_is_swept_when_its_writer_is_gone_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with files.written(path) as stream:
        files.sweep(path)
        stream.write(b"first")
    assert look_at_files(tmp_path) == {"report.html": b"first"}
    with files.staging(path) as folder:
        (folder / "inside").write_text("")
        files.sweep(path)
        assert (folder / "inside").exists()
    (tmp_path / ".report.html.123-0123abcd").write_text("of a killed process")
    (tmp_path / ".report.html.notes").write_text("of somebody else")
    files.sweep(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".report.html.notes",
        "report.html",
    ]


def test_copies_into_class_folders_leave_nothing_of_a_killed_process(tmp_path: Path) -> None:
    image, place = tmp_path / "a.png", tmp_path / "copies" / "sky"
    image.write_bytes(b"picture")
    place.mkdir(parents=True)
    (place / ".a.png.123-0123abcd").write_text("of a killed process")
    copy_into(place.parent, "sky", image, files.sha256(image))
    assert [entry.name for entry in place.iterdir()] == ["a.png"]


def test_a_sweep_between_making_a_draft_and_locking_it_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, touch = tmp_path / "report.html", Path.touch
    swept: list[Path] = []

    def touched(draft: Path, exist_ok: bool = True) -> None:
        touch(draft, exist_ok=exist_ok)
        if not swept:
            swept.append(draft)
            files.sweep(path)

    monkeypatch.setattr(Path, "touch", touched)
    with files.written(path) as stream:
        stream.write(b"whole")
    assert swept
    assert look_at_files(tmp_path) == {"report.html": b"whole"}


def test_where_there_are_no_locks_age_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path, left = tmp_path / "report.html", tmp_path / ".report.html.123-0123abcd"
    left.write_text("")
    with files.published(path) as stream:
        stream.write(b"whole")
    assert left.exists()
    os.utime(left, (0, 0))
    files.sweep(path)
    assert look_at_files(tmp_path) == {"report.html": b"whole"}
    assert not left.exists()


def test_nothing_stays_open(tmp_path: Path, place: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with files.published(tmp_path / "file") as stream:
            stream.write(b"content")
        with files.staging(tmp_path / "folder"), contextlib.suppress(OSError):
            files.sweep(tmp_path / "folder")
        with extending(place / "above" / "run", 0):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("name", ["a first round", "a second round", "a dropped round"])
def test_a_signal_lets_what_began_to_be_published_be_published(world: World, name: str) -> None:
    """At once: nothing is left behind, and what is in place is flushed."""
    scenario = STORAGE[name]
    before, after = world.ends(scenario)
    for number in range(_steps(world, name)):
        recorded = Recorded(world.reset(scenario))
        with recorded.watched().watching():
            strike_again(world, scenario, Signal(number))
        seen = world.look(scenario)
        assert seen in (before, after), number
        assert not world.leftovers(), (number, world.leftovers())
        if seen == after:
            kinds = [step.operation.kind for step in recorded.steps]
            last = len(kinds) - 1 - kinds[::-1].index("rename")
            later = [step.operation for step in recorded.steps[last:]]
            assert "above/run/rounds" in [o.path for o in later if o.kind == "sync"], number


def _steps(world: World, name: str) -> int:
    """How many changes of the disk a scenario makes."""
    whole = Signal(10**6)
    strike(world, STORAGE[name], whole)
    return whole.seen


@pytest.mark.parametrize("name", ["a first round", "a second round"])
def test_what_was_refused_is_not_there(world: World, name: str) -> None:
    """Exit code 6 means that nothing was saved, even where the last flush fails."""
    scenario = STORAGE[name]
    before, _ = world.ends(scenario)
    for number in range(_steps(world, name)):
        answer = strike(world, scenario, fault := Error(number))
        assert answer is not None
        if answer.code == 6:
            assert world.look(scenario) == before, fault


def test_what_is_staged_goes_when_it_fails(place: Path) -> None:
    path = place / "above" / "run"
    with extending(path, 0) as writer:
        with contextlib.suppress(ValueError), writer.staging() as staged:
            (staged / "half").touch()
            raise ValueError
        assert not list(path.glob(".*"))


def test_folders_that_cannot_be_flushed_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(paths, "sync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        files.make_folders(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("replaces", [False, True])
def test_a_folder_that_another_process_makes_meanwhile_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    for name in ("draft", "model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "graph").write_text(name)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "model" and exists(path))
    if replaces:
        files.replace_folder(tmp_path / "draft", tmp_path / "model")
    else:
        assert not files.place_folder(tmp_path / "draft", tmp_path / "model")
    kept = "draft" if replaces else "model"
    assert (tmp_path / "model" / "graph").read_text() == kept


def test_a_folder_that_cannot_be_replaced_in_steps_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "draft":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    for name in ("draft", "model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "graph").write_text(name)
    monkeypatch.setattr(drafts, "_exchanged", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageError):
        files.replace_folder(tmp_path / "draft", tmp_path / "model")
    assert (tmp_path / "model" / "graph").read_text() == "model"
    with pytest.raises(StorageError):
        files.place_folder(tmp_path / "draft", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_a_copy_stands_in_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").write_bytes(b"content")
    files.link(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"content"


def test_what_is_no_hdf5_file_is_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "head.h5"
    files.save_arrays(path, {"a": np.zeros(3)}, {"format": 1})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"head\.h5"), files.loading_arrays(path, 1):
        pass


def test_why_a_library_could_not_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.why_full(RuntimeError("odd"), tmp_path, 10) is None

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert files.why_full(RuntimeError("odd"), tmp_path, 10) == "No space left on device"


def test_a_folder_that_goes_while_its_lock_is_awaited_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire, tries = locking._acquire, []

    def gone_at_first(lock: Any, path: Path, wait_seconds: float) -> None:
        tries.append(path)
        if len(tries) == 1:
            raise FileNotFoundError
        acquire(lock, path, wait_seconds)

    monkeypatch.setattr(locking, "_acquire", gone_at_first)
    with locking.locked(tmp_path / "run", 0, anew=True):
        assert (tmp_path / "run").is_dir()
    tries.clear()
    with pytest.raises(FileNotFoundError), locking.locked(tmp_path / "run", 0):
        raise AssertionError("it has no lock")


def test_a_reader_reads_again_where_rounds_went_meanwhile(place: Path) -> None:
    run = runs.open_run(place / "above" / "run")
    tries = []

    def read() -> list[int]:
        tries.append(run.numbers())
        entry = run.round(tries[-1][0])
        if len(tries) == 1:
            with extending(run.path, 0) as writer:
                writer.drop([1])
        return [int(entry.file("head.h5").read_bytes().split()[-1])]

    assert run.steadily(read) == [2]
    assert tries == [[1, 2], [2]]


def test_what_cannot_be_deleted_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place / "above" / "run"
    monkeypatch.setattr(shutil, "rmtree", lambda *given, **options: None)
    with extending(path, 0) as writer, pytest.raises(StorageError, match=r"\.building-"):
        writer.drop([1])
    monkeypatch.undo()
    assert [entry[0] for entry in look_at_run(place)] == [2]
    with extending(path, 0):
        assert not list(path.glob(".*"))


def test_a_new_run_that_fails_leaves_nothing_even_after_a_kill(world: World) -> None:
    path = world.empty() / "above" / "run"
    for left in (None, "lock", ".building-1"):
        if left:
            path.mkdir(parents=True)
            (path / "lock").touch()
        with contextlib.suppress(ValueError), creating(path, 0):
            raise ValueError
        assert not path.exists(), left
