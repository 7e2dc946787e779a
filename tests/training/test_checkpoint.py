"""The training state on disk."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tlcli.errors import RunError, StorageError, UsageError
from tlcli.training.checkpoint import METRICS, STATE, Checkpoints, Epoch, Score, TrainingHistory

EPOCH = Epoch(1, 1e-3, 0.5, 0.8, 0.6, 0.75, 1.5, 100.0)
COURSE = TrainingHistory(Score(0.5, -1.0), 1e-3, (EPOCH,), 1, 7, 3.5, 2.0, 0.25)
IDENTITY = {"lr": 0.001, "images": "5+2", "deep": {"seed": 0}}


def some(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(3, 4)).astype(np.float32), np.array(7, np.int64)]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "training", IDENTITY)


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_what_was_saved_is_what_is_loaded(checkpoints: Checkpoints) -> None:
    assert checkpoints.load() is None
    checkpoints.save(COURSE, some(1), some(2), fresh=True)
    loaded = checkpoints.load()
    assert loaded is not None
    history, values, best = loaded
    assert history == COURSE
    assert_equal(values, some(1))
    assert_equal(best, some(2))


def test_the_best_weights_are_written_once(checkpoints: Checkpoints) -> None:
    checkpoints.save(COURSE, some(1), some(2), fresh=True)
    checkpoints.save(replace(COURSE, steps=8), some(3), some(4), fresh=False)
    loaded = checkpoints.load()
    assert loaded is not None
    assert_equal(loaded[1], some(3))
    assert_equal(loaded[2], some(2))
    assert len(list(checkpoints.folder.iterdir())) == 4


def test_a_line_of_metrics_for_each_epoch(checkpoints: Checkpoints) -> None:
    checkpoints.save(COURSE, some(1), some(2), fresh=True)
    (line,) = (checkpoints.folder / METRICS).read_text().splitlines()
    assert json.loads(line)["validation_accuracy"] == 0.75


def test_another_training_is_not_continued(checkpoints: Checkpoints) -> None:
    checkpoints.save(COURSE, some(1), some(2), fresh=True)
    other = Checkpoints(checkpoints.folder, {**IDENTITY, "lr": 0.01, "deep": {"seed": 1}})
    with pytest.raises(UsageError, match=r"deep\.seed was 0 and is 1; lr was 0\.001 and is 0\.01"):
        other.load()


@pytest.mark.parametrize("pattern", ["state-*.h5", "best-*.h5", STATE])
def test_damage_is_found(checkpoints: Checkpoints, pattern: str) -> None:
    checkpoints.save(COURSE, some(1), some(2), fresh=True)
    (path,) = checkpoints.folder.glob(pattern)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.write_bytes(content)
    with pytest.raises(RunError, match=path.name):
        checkpoints.load()


def test_a_newer_state_is_refused(checkpoints: Checkpoints) -> None:
    checkpoints.save(COURSE, some(1), some(2), fresh=True)
    path = checkpoints.folder / STATE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(RunError, match="99"):
        checkpoints.load()


@pytest.mark.parametrize("full_at", [1, 2, 3])
def test_a_full_disk_leaves_the_state_before(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    checkpoints.save(COURSE, some(1), some(2), fresh=True)
    calls = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2 * full_at - 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="No space left"):
        checkpoints.save(replace(COURSE, steps=8), some(3), some(4), fresh=True)
    monkeypatch.undo()
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded[0] == COURSE
    assert_equal(loaded[1], some(1))
