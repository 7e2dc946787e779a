"""The memory of a round: the same bytes for the same state, and never half of it."""

import hashlib
import os
from dataclasses import replace

import h5py
import numpy as np
import pytest

from tlcli import files, memory, moments
from tlcli.errors import RunError
from tlcli.memory import Memory


def sha(number):
    return hashlib.sha256(b"%d" % number).hexdigest()


def example(complete=True):
    features = np.random.default_rng(0).normal(0, 40, (6, 4)).astype(np.float32)
    labels = ["red panda", "キツネ", "Cat", "cat", "cat", "Cat"]
    ledger = {sha(number): label for number, label in enumerate(labels)}
    return Memory(moments.of(features, labels, "f" * 64, 10), ledger, complete)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "memory.h5"
    memory.save(example(), path)
    return path


@pytest.mark.parametrize("complete", [True, False])
def test_a_saved_memory_comes_back_as_it_was(tmp_path, complete):
    before = example(complete)
    memory.save(before, tmp_path / "memory.h5")
    after = memory.load(tmp_path / "memory.h5")
    assert after.moments.digest == before.moments.digest
    assert after.ledger == before.ledger
    assert after.complete is complete
    for name in ("fingerprint", "bits", "classes", "saturated"):
        assert getattr(after.moments, name) == getattr(before.moments, name)
    for name in ("counts", "sums", "gram"):
        np.testing.assert_array_equal(getattr(after.moments, name), getattr(before.moments, name))
        assert getattr(after.moments, name).dtype == np.int64
    assert after.moments.saturated > 0
    moments.add(after.moments, before.moments)


def test_a_memory_of_nothing_comes_back(tmp_path):
    memory.save(Memory(moments.empty("f" * 64, 10, 4), {}), tmp_path / "memory.h5")
    after = memory.load(tmp_path / "memory.h5")
    assert after.ledger == {}
    assert after.moments.digest == moments.empty("f" * 64, 10, 4).digest


def test_moments_without_a_ledger_come_back(tmp_path):
    memory.save(replace(example(), ledger={}), tmp_path / "memory.h5")
    after = memory.load(tmp_path / "memory.h5")
    assert after.ledger == {}
    assert after.moments.digest == example().moments.digest


def test_the_bytes_do_not_depend_on_the_order_in_which_images_were_learned(saved, tmp_path):
    state = example()
    turned = replace(state, ledger=dict(reversed(state.ledger.items())))
    memory.save(turned, tmp_path / "turned.h5")
    assert (tmp_path / "turned.h5").read_bytes() == saved.read_bytes()


def test_the_size_does_not_depend_on_the_number_of_images(tmp_path):
    sizes = []
    for count in (10, 1000):
        features = np.random.default_rng(0).normal(0, 1, (count, 4)).astype(np.float32)
        found = moments.of(features, ["a", "b"] * (count // 2), "f" * 64, 10)
        memory.save(Memory(found, {}), tmp_path / f"{count}.h5")
        sizes.append((tmp_path / f"{count}.h5").stat().st_size)
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_memory_is_refused(saved, share):
    os.truncate(saved, int(saved.stat().st_size * share))
    with pytest.raises(RunError, match=r"memory\.h5 is damaged"):
        memory.load(saved)


@pytest.mark.parametrize("place", range(8))
def test_a_flipped_signature_is_refused(saved, place):
    damaged = bytearray(saved.read_bytes())
    damaged[place] ^= 1
    saved.write_bytes(damaged)
    with pytest.raises(RunError, match="damaged"):
        memory.load(saved)


PARTS = ["classes", "counts", "sums", "gram", "ledger_hashes", "ledger_classes"]


@pytest.mark.parametrize("part", PARTS)
def test_a_memory_without_one_of_its_parts_is_refused(saved, part):
    with h5py.File(saved, "a") as file:
        del file[part]
    with pytest.raises(RunError, match="damaged"):
        memory.load(saved)


@pytest.mark.parametrize("attribute", ["format", "fingerprint", "bits", "width", "complete"])
def test_a_memory_without_one_of_its_attributes_is_refused(saved, attribute):
    with h5py.File(saved, "a") as file:
        del file.attrs[attribute]
    with pytest.raises(RunError, match="damaged"):
        memory.load(saved)


@pytest.mark.parametrize("part", ["gram", "ledger_classes"])
def test_a_part_of_another_length_is_refused(saved, part):
    with h5py.File(saved, "a") as file:
        shortened = file[part][:-1]
        del file[part]
        file[part] = shortened
    with pytest.raises(RunError, match="damaged"):
        memory.load(saved)


@pytest.mark.parametrize("part", ["classes", "counts", "sums"])
def test_classes_counts_and_sums_must_fit_together(saved, part):
    with h5py.File(saved, "a") as file:
        shortened = files.text_array(("cat",)) if part == "classes" else file[part][:-1]
        del file[part]
        file[part] = shortened
        del file["ledger_hashes"], file["ledger_classes"]
        file["ledger_hashes"] = np.zeros((0, 32), np.uint8)
        file["ledger_classes"] = np.zeros(0, np.int32)
    with pytest.raises(RunError, match="damaged"):
        memory.load(saved)


def test_a_memory_of_a_newer_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "memory.h5"
    files.save_arrays(path, {"something": np.zeros(1)}, {"format": memory.FORMAT + 1})
    before = path.read_bytes()
    with pytest.raises(RunError, match="Upgrade tlcli"):
        memory.load(path)
    assert path.read_bytes() == before
