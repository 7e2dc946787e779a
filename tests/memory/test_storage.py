"""The memory of a round on disk: the same bytes for the same state, and never half of it."""

import errno
import hashlib
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.memory.test_memory import (
    KERAS,
    WIDTH,
    centre,
    examples,
    forget,
    kept_of,
    key,
    learn,
    moments_of,
    nothing,
    pictures,
)
from tests.memory.test_parts import round_of, saved
from tlcli import files, memory, moments
from tlcli.errors import RunError, StorageError
from tlcli.features import Examples, Kind, Vectors
from tlcli.memory import SETTINGS, Memory
from tlcli.runs import Round


def assert_same(after: Memory, before: Memory) -> None:
    """Everything that a memory is, rows included."""
    for name in ("setting", "ledger", "exact", "kinds", "exemplars_per_class", "digest"):
        assert getattr(after, name) == getattr(before, name)
    assert set(after.centres) == set(before.centres)
    assert all(centre(after, name) == centre(before, name) for name in before.centres)
    if before.kept is None:
        assert after.kept is None
        return
    assert kept_of(after).hashes == kept_of(before).hashes
    assert kept_of(after).labels == kept_of(before).labels
    assert kept_of(after).vectors[:].tobytes() == kept_of(before).vectors[:].tobytes()
    if before.setting == "exemplars":
        pixels = [state.pixels_of(kept_of(state).hashes) for state in (after, before)]
        assert pixels[0].shape == pixels[1].shape
        assert pixels[0].tobytes() == pixels[1].tobytes()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("count", [0, 1, 14])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_saved_memory_comes_back_as_it_was(
    tmp_path: Path, setting: str, count: int, exact: bool
) -> None:
    before = learn(nothing(setting), range(count)) if count else nothing(setting)
    before = replace(
        before, exact=exact, kinds=before.kinds | {Kind("openvino 2026.4", "pillow 0")}
    )
    assert_same(memory.load(saved(before, tmp_path / "1")), before)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_memory_goes_on_where_it_was_saved(tmp_path: Path, setting: str) -> None:
    steps: list[Callable[[Memory], Memory]] = [
        lambda state: learn(state, range(9)),
        lambda state: learn(state, range(9, 30)),
        lambda state: forget(state, [2, 5, 8, 9, 10]),
        lambda state: learn(state, [2, 40, 41]),
    ]
    held = loaded = nothing(setting)
    for number, step in enumerate(steps):
        held, loaded = step(held), step(loaded)
        loaded = memory.load(saved(loaded, tmp_path / str(number)))
        assert_same(loaded, held)


def test_kinds_of_arithmetic_are_written_in_the_order_of_their_names(tmp_path: Path) -> None:
    kinds = [f"engine {number}" for number in range(20)]
    named = frozenset(Kind(name, "pillow 0") for name in kinds)
    state = replace(nothing("moments"), kinds=named)
    with h5py.File(saved(state, tmp_path / "1").folder / "memory.h5") as file:
        assert file.attrs["arithmetic"].split("\n") == sorted(kinds)


def test_moments_come_back_with_all_that_they_hold(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(0, 40, (6, WIDTH)).astype(np.float32)
    before = moments.of(vectors, ["Cat", "cat", "キツネ"] * 2, "f" * 64, 10)
    assert before.saturated
    after = memory.load(saved(Memory("moments", {}, before), tmp_path / "1")).moments
    for name in ("fingerprint", "bits", "classes", "saturated", "digest"):
        assert getattr(after, name) == getattr(before, name)
    for name in ("counts", "sums", "gram"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        assert getattr(after, name).dtype == np.int64
    assert after and moments.add(after, before)


def test_a_ledger_may_know_images_that_the_moments_do_not(tmp_path: Path) -> None:
    before = Memory("moments", {key(1): "Cat"}, moments.empty("f" * 64, 10, WIDTH))
    assert_same(memory.load(saved(before, tmp_path / "1")), before)


def test_hashes_that_end_in_zeros_come_back(tmp_path: Path) -> None:
    hashes = ["ab" * 31 + "00", "ab" * 30 + "0000", "00" * 32, "00" * 31 + "ab", "ab" * 32]
    new = replace(examples(range(5)), hashes=tuple(hashes))
    before = nothing("exemplars", 5).learned(
        new,
        moments_of(new),
        KERAS,
        lambda names: np.arange(60, dtype=np.uint8).reshape(5, 2, 2, 3),
    )
    assert_same(memory.load(saved(before, tmp_path / "1")), before)


def content_of(state: Memory, folder: Path) -> bytes:
    return (saved(state, folder).folder / "memory.h5").read_bytes()


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_state_gives_the_same_bytes(tmp_path: Path, setting: str) -> None:
    joint = learn(nothing(setting), range(14))
    again = learn(nothing(setting), range(14))
    again = replace(again, ledger=dict(reversed(list(again.ledger.items()))))
    expected = content_of(joint, tmp_path / "joint")
    assert content_of(again, tmp_path / "again") == expected
    reloaded = memory.load(saved(joint, tmp_path / "1"))
    assert content_of(reloaded, tmp_path / "reloaded") == expected


@pytest.mark.parametrize("setting", ["none", "moments", "features"])
def test_the_bytes_do_not_depend_on_rounds(tmp_path: Path, setting: str) -> None:
    joint = learn(nothing(setting), range(14))
    rounds = learn(learn(nothing(setting), range(8, 14)), range(7, -1, -1))
    assert content_of(rounds, tmp_path / "rounds") == content_of(joint, tmp_path / "joint")


def test_the_size_of_moments_does_not_depend_on_the_number_of_images(tmp_path: Path) -> None:
    sizes = []
    for count in (10, 1000):
        vectors = np.random.default_rng(0).normal(0, 1, (count, WIDTH)).astype(np.float32)
        found = moments.of(vectors, ["a", "b"] * (count // 2), "f" * 64, 10)
        sizes.append(len(content_of(Memory("moments", {}, found), tmp_path / str(count))))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("setting", ["features", "exemplars"])
@pytest.mark.parametrize("width", [1, 9])
def test_the_moments_may_be_of_a_projection_of_the_features(
    tmp_path: Path, setting: str, width: int
) -> None:
    projected = np.zeros((9, width), np.float32)
    new = examples(range(9))
    total = moments.of(projected, new.labels, "f" * 64, 10)
    start = memory.empty(setting, 2, moments.empty("f" * 64, 10, width), WIDTH)
    for before in (start, start.learned(new, total, KERAS, pictures)):
        assert_same(memory.load(saved(before, tmp_path / "1")), before)


def test_features_stay_on_disk(tmp_path: Path) -> None:
    count, width = 16_000, 256
    hashes = tuple(f"{number:064x}" for number in range(count))
    vectors = np.random.default_rng(0).normal(0, 1, (count, width)).astype(np.float32)
    new = Examples(hashes, ("Cat",) * count, Vectors.of(vectors))
    start = memory.empty("features", None, moments.empty("f" * 64, 10, width), width)
    entry = saved(start.learned(new, start.moments, KERAS, pictures), tmp_path / "1")
    tracemalloc.start()
    state = memory.load(entry)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < vectors.nbytes
    np.testing.assert_array_equal(kept_of(state).vectors[5:900:7], vectors[5:900:7])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_disk_that_refuses_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, number: int
) -> None:
    def refuse(descriptor: int) -> NoReturn:
        raise OSError(number, os.strerror(number))

    state = learn(nothing(setting), range(5))
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=os.strerror(number)):
        memory.save(state, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["features-0001.h5", "exemplars-0001.h5"])
def test_a_disk_that_is_full_before_the_end_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    done = []
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        done.append(descriptor)
        if len(done) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    state = learn(nothing(file.split("-")[0]), range(5))
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=file):
        memory.save(state, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["memory.h5"]


@pytest.fixture(params=SETTINGS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A saved round of each setting."""
    return saved(learn(nothing(request.param), range(14)), tmp_path / "1").folder


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_memory_is_refused(folder: Path, share: float) -> None:
    for path in folder.iterdir():
        content = path.read_bytes()
        os.truncate(path, int(len(content) * share))
        with pytest.raises(RunError, match=rf"{path.name} is damaged"):
            memory.load(round_of(folder))
        path.write_bytes(content)
    memory.load(round_of(folder))


def test_a_file_that_is_not_what_the_manifest_says_is_refused(folder: Path) -> None:
    entry = round_of(folder)
    for path in folder.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(RunError, match=f"{path.name} was changed"):
            memory.load(entry)
        path.unlink()
        with pytest.raises(RunError, match=f"{path.name} is missing"):
            memory.load(entry)
        path.write_bytes(content)


def test_each_file_is_read_once_for_its_hash(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, sha256 = round_of(folder), files.sha256
    read: list[str] = []

    def noted(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    monkeypatch.setattr(files, "sha256", noted)
    memory.load(entry)
    assert sorted(read) == sorted(path.name for path in folder.iterdir())


def test_a_memory_without_one_of_its_parts_is_refused(folder: Path) -> None:
    for path in folder.iterdir():
        content = path.read_bytes()
        with h5py.File(path) as file:
            names, attributes = list(file), list(file.attrs)
        for name in names:
            with h5py.File(path, "a") as file:
                del file[name]
            refused(folder, path, content)
        for name in set(attributes) - {"saturated"}:
            with h5py.File(path, "a") as file:
                del file.attrs[name]
            refused(folder, path, content)


def refused(folder: Path, path: Path, content: bytes) -> None:
    with pytest.raises(RunError, match="is damaged"):
        memory.load(round_of(folder))
    path.write_bytes(content)


def test_a_part_of_another_length_is_refused(folder: Path) -> None:
    for path in folder.iterdir():
        content = path.read_bytes()
        with h5py.File(path) as file:
            names = list(file)
        for name in names:
            with h5py.File(path, "a") as file:
                shorter = file[name][:-1]
                del file[name]
                file[name] = shorter
            refused(folder, path, content)


def test_a_memory_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "memory.h5"
    files.save_arrays(path, {"something": np.zeros(1)}, {"format": memory.FORMAT + 1})
    before = path.read_bytes()
    with pytest.raises(RunError, match="Upgrade tlcli"):
        memory.load(round_of(tmp_path))
    assert path.read_bytes() == before


def tampered(
    state: Memory, folder: Path, file: str = "memory.h5", **arrays: NDArray[np.integer]
) -> Round:
    """A round in which some arrays are others."""
    saved(state, folder)
    with h5py.File(folder / file, "a") as content:
        for name, array in arrays.items():
            del content[name]
            content[name] = array
    return round_of(folder)


WIDE = np.zeros((6, WIDTH + 1), np.float32)
ZEROS = np.zeros((6, 32), np.uint8)
OTHERS = ZEROS + np.arange(6, dtype=np.uint8)[:, None]
CONTRADICTIONS = [
    ("features", "memory.h5", "class without a name", {"ledger_classes": np.full(6, 3, "<i4")}),
    ("features", "memory.h5", "class without a name", {"ledger_classes": np.full(6, -1, "<i4")}),
    ("features", "memory.h5", "an image twice", {"ledger_hashes": ZEROS}),
    ("features", "memory.h5", r"uint8 of shape \(6, 31\)", {"ledger_hashes": ZEROS[:, 1:]}),
    ("features", "memory.h5", "ledger_hashes is uint32", {"ledger_hashes": ZEROS.astype("u4")}),
    ("features", "memory.h5", r"counts is int64 of shape \(4,\)", {"counts": np.ones(4, np.int64)}),
    ("features", "features-0001.h5", "of other images", {"keys": OTHERS}),
    ("features", "features-0001.h5", r"float32 of shape \(6, 5\)", {"vectors": WIDE}),
    ("features", "features-0001.h5", "float64", {"vectors": WIDE[:, 1:].astype("<f8")}),
    ("exemplars", "memory.h5", "has no centre", {"centre_counts": np.zeros(3, np.int64)}),
    (
        "exemplars",
        "memory.h5",
        "and not int64 of shape 1",
        {"centre_classes": files.text_array(("Cat",))},
    ),
    ("exemplars", "memory.h5", "centre_sums is int64", {"centre_sums": WIDE[:3].astype(np.int64)}),
    ("exemplars", "memory.h5", "not in the ledger", {"exemplars": ZEROS}),
    ("exemplars", "exemplars-0001.h5", "of other images", {"keys": OTHERS}),
    ("exemplars", "exemplars-0001.h5", "uint8", {"pixels": np.zeros((6, 3, 2, 3), np.uint8)}),
    ("exemplars", "exemplars-0001.h5", "uint8", {"pixels": np.zeros((6, 2, 2, 1), np.uint8)}),
]


@pytest.mark.parametrize(("setting", "file", "problem", "arrays"), CONTRADICTIONS)
def test_parts_that_contradict_each_other_are_damage(
    tmp_path: Path, setting: str, file: str, problem: str, arrays: dict[str, NDArray[Any]]
) -> None:
    entry = tampered(learn(nothing(setting), range(6)), tmp_path, file, **arrays)
    with pytest.raises(RunError, match=rf"h5 is damaged \(.*{problem}"):
        memory.load(entry)


def test_a_ledger_without_an_image_whose_features_are_kept_is_damage(tmp_path: Path) -> None:
    state = learn(nothing("features"), range(6))
    classes = np.zeros(5, np.int32)
    entry = tampered(state, tmp_path, ledger_hashes=OTHERS[:5], ledger_classes=classes)
    with pytest.raises(RunError, match="of other images"):
        memory.load(entry)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("setting", "all", "unknown memory 'all'"),
        ("exemplars_per_class", 1, "more than 1 exemplars"),
    ],
)
def test_attributes_that_contradict_the_arrays_are_damage(
    tmp_path: Path, name: str, value: str | int, problem: str
) -> None:
    folder = saved(learn(nothing("exemplars"), range(6)), tmp_path / "1").folder
    with h5py.File(folder / "memory.h5", "a") as file:
        file.attrs[name] = value
    with pytest.raises(RunError, match=rf"memory\.h5 is damaged \(.*{problem}"):
        memory.load(round_of(folder))


def test_rows_of_another_setting_are_damage(tmp_path: Path) -> None:
    saved(learn(nothing("features"), range(6)), tmp_path / "1")
    entry = saved(learn(nothing("moments"), range(6)), tmp_path / "1")
    with pytest.raises(RunError, match=r"features-0001\.h5 does not belong to"):
        memory.load(entry)


def test_missing_rows_are_damage(tmp_path: Path) -> None:
    folder = saved(learn(nothing("features"), range(6)), tmp_path / "1").folder
    (folder / "features-0001.h5").unlink()
    with pytest.raises(RunError, match="of other images"):
        memory.load(round_of(folder))


def test_exemplars_of_two_sizes_are_damage(tmp_path: Path) -> None:
    folder = saved(learn(nothing("exemplars"), range(6)), tmp_path / "1").folder
    with h5py.File(folder / "exemplars-0001.h5") as file:
        keys, vectors = file["keys"][()], file["vectors"][()]
    for number, (rows, size) in enumerate([(slice(3), 2), (slice(3, 6), 3)], 1):
        pixels = np.zeros((3, size, size, 3), np.uint8)
        arrays = {"keys": keys[rows], "vectors": vectors[rows], "pixels": pixels}
        files.save_arrays(folder / f"exemplars-000{number}.h5", arrays, {})
    with pytest.raises(RunError, match="differ in size"):
        memory.load(round_of(folder))


@pytest.mark.parametrize("setting", ["features", "exemplars"])
def test_a_memory_that_could_not_be_loaded_is_not_saved(tmp_path: Path, setting: str) -> None:
    state = learn(nothing(setting), range(6))
    for wrong in (
        replace(state, ledger={**state.ledger, key(9): "Cat"} if setting == "features" else {}),
        replace(state, kept=None),
        replace(state, moments=None),
        replace(state, setting="moments"),
        replace(state, setting="none"),
    ):
        with pytest.raises(AssertionError):
            memory.save(wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_round_keeps_and_what_it_costs(tmp_path: Path) -> None:
    for setting in SETTINGS:
        folder = saved(learn(nothing(setting), range(9)), tmp_path / setting).folder
        (folder / "model.keras").write_bytes(b"m" * 100)
        (folder / "head.h5").write_bytes(b"h" * 10)
        (folder / "report.json").write_bytes(b"r" * 1000)
        found = memory.bytes_by_part(round_of(folder))
        assert set(found) == {"moments", "features", "exemplars", "model"}
        assert found["model"] == 110
        assert found["moments"] == (folder / "memory.h5").stat().st_size
        for part in ("features", "exemplars"):
            expected = sum(path.stat().st_size for path in folder.glob(f"{part}-*"))
            assert found[part] == expected
            assert bool(expected) == (part == setting)


def test_a_missing_file_costs_nothing(tmp_path: Path) -> None:
    entry = saved(learn(nothing("features"), range(9)), tmp_path / "1")
    (entry.folder / "features-0001.h5").unlink()
    assert memory.bytes_by_part(entry)["features"] == 0


@pytest.mark.parametrize("setting", ["moments", "features", "exemplars"])
def test_moments_travel_in_one_file(tmp_path: Path, setting: str) -> None:
    state = replace(learn(nothing(setting), range(9)), exact=False)
    memory.save_file(state, tmp_path / "part.moments")
    alone = learn(nothing("moments"), range(9))
    assert_same(memory.load_file(tmp_path / "part.moments"), replace(alone, exact=False))


def test_the_same_moments_are_the_same_file(tmp_path: Path) -> None:
    for name, numbers in (("a", range(9)), ("b", range(8, -1, -1))):
        memory.save_file(learn(nothing("moments"), numbers), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.fixture
def moments_file(tmp_path: Path) -> Path:
    path = tmp_path / "part.moments"
    memory.save_file(learn(nothing("moments"), range(9)), path)
    return path


def test_no_bit_of_a_moments_file_may_flip(moments_file: Path) -> None:
    content = moments_file.read_bytes()
    for place in [*range(0, len(content), 97), len(content) - 1]:
        damaged = bytearray(content)
        damaged[place] ^= 1
        moments_file.write_bytes(damaged)
        with pytest.raises(RunError, match=str(moments_file)):
            memory.load_file(moments_file)


def test_what_is_no_moments_file_is_refused_by_name(moments_file: Path, tmp_path: Path) -> None:
    content = moments_file.read_bytes()
    round_folder = saved(learn(nothing("moments"), range(3)), tmp_path / "1").folder
    for wrong in (
        b"",
        b"text",
        content[:-1],
        content[40:],
        content + b"\n",
        (round_folder / "memory.h5").read_bytes(),
    ):
        moments_file.write_bytes(wrong)
        with pytest.raises(RunError, match=rf"tlcli moments.*{moments_file}"):
            memory.load_file(moments_file)
    for place in (tmp_path / "missing", tmp_path):
        with pytest.raises(RunError, match=str(place)):
            memory.load_file(place)


def test_a_moments_file_of_another_setting_is_refused(moments_file: Path, tmp_path: Path) -> None:
    folder = saved(learn(nothing("features"), range(3)), tmp_path / "1").folder
    content = (folder / "memory.h5").read_bytes()
    moments_file.write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(RunError, match="it is a memory 'features'"):
        memory.load_file(moments_file)


def test_a_moments_file_of_a_newer_program_is_refused(
    moments_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlcli.memory.moments_files.FORMAT", 0)
    with pytest.raises(RunError, match="Upgrade tlcli"):
        memory.load_file(moments_file)


def test_a_moments_file_that_cannot_be_written_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError):
        memory.save_file(learn(nothing("moments"), range(3)), tmp_path / "part.moments")
    assert list(tmp_path.iterdir()) == []
