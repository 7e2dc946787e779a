"""What the frozen part gives is kept while the rest learns."""

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import tiny
from tests.training.test_training import (
    OPTIONS,
    SIZE,
    Stop,
    assert_same,
    begun,
    fit,
    raising,
    setting,
    stopping_at,
    weights_of,
)
from tlcli import backbones
from tlcli.errors import StorageError
from tlcli.training import Epoch, Keeping, Teacher, TrainingHistory, TrainingSetup

__all__ = ["raising"]

KEPT = Keeping(3, 10**9, "keras")
ROW_BYTES = 4 * 7 * 7 * 12
"""Of what the second of the three blocks gives of an image of 32 pixels."""


def top(folder: Path, keeping: Keeping | None = KEPT, **options: Any) -> TrainingSetup:
    """Only the last block of the tiny network learns."""
    given = setting(folder, **options)
    given = replace(given, layers=given.layers[:1])
    return given if keeping is None else replace(given, keeping=keeping)


class Watched:
    """The views that were computed, one after the other."""

    def __init__(self) -> None:
        self.views: list[str] = []

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase.startswith("view") and done == total:
            self.views.append(phase.split()[1])


def figures(history: TrainingHistory) -> list[tuple[float, ...]]:
    return [(e.loss, e.accuracy, e.validation_loss, e.validation_accuracy) for e in history.epochs]


def assert_alike(tmp_path: Path, keeping: Keeping, teacher: Any = None, **options: Any) -> None:
    """Two trainings, the second with rows kept, are the same but for rounding."""
    given = replace(OPTIONS, **options)
    without, kept = (
        top(tmp_path / str(at), at, options=given, progress=Watched()) for at in (None, keeping)
    )
    before = weights_of(kept)
    histories = [fit(each, teacher=teacher and teacher())[1] for each in (without, kept)]
    assert isinstance(kept.progress, Watched) and kept.progress.views
    np.testing.assert_allclose(figures(histories[0]), figures(histories[1]), rtol=1e-3)
    pairs = zip(weights_of(without), weights_of(kept), strict=True)
    assert all(np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in pairs)
    assert any((a != b).any() for a, b in zip(weights_of(kept), before, strict=True))
    assert histories[0].peak == pytest.approx(histories[1].peak)


@pytest.mark.parametrize("augment", ["light", pytest.param("strong", marks=pytest.mark.slow)])
def test_as_many_views_as_epochs_are_training_without(tmp_path: Path, augment: str) -> None:
    assert_alike(tmp_path, KEPT, augment=augment)


def test_what_openvino_gives_is_training_without(tmp_path: Path) -> None:
    assert_alike(tmp_path, replace(KEPT, engine="openvino"), epochs=2)


def test_images_that_do_not_change_have_one_view(tmp_path: Path) -> None:
    assert_alike(tmp_path, KEPT, augment="none")


def test_the_search_for_a_rate_is_the_same(tmp_path: Path) -> None:
    assert_alike(tmp_path, KEPT, lr=None, epochs=1)


def test_a_teacher_teaches_the_same(tmp_path: Path) -> None:
    def teacher() -> Teacher:
        return Teacher(tiny.build("tiny", SIZE, backbones.Random()), begun(), 3.0)

    assert_alike(tmp_path, KEPT, teacher, epochs=2)


def test_with_statistics_that_move(tmp_path: Path) -> None:
    options: dict[str, Any] = {"statistics": True, "options": replace(OPTIONS, epochs=2)}
    without, kept = top(tmp_path / "a", None, **options), top(tmp_path / "b", **options)
    np.testing.assert_allclose(figures(fit(without)[1]), figures(fit(kept)[1]), rtol=1e-3)


def test_views_are_seen_in_turn(tmp_path: Path) -> None:
    watched = Watched()
    options = replace(OPTIONS, epochs=5)
    given = top(tmp_path, replace(KEPT, views=2), options=options, progress=watched)
    _, history = fit(given)
    assert watched.views == ["1", "2"]
    assert len(history.epochs) == 5


def test_where_everything_learns_nothing_is_kept(tmp_path: Path) -> None:
    watched = Watched()
    options = replace(OPTIONS, epochs=1)
    fit(replace(setting(tmp_path, options=options, progress=watched), keeping=KEPT))
    assert watched.views == []


@pytest.mark.usefixtures("raising")
@pytest.mark.parametrize("augment", ["light", pytest.param("strong", marks=pytest.mark.slow)])
def test_a_stopped_training_continues_bit_for_bit(tmp_path: Path, augment: str) -> None:
    options, two = replace(OPTIONS, augment=augment), replace(KEPT, views=2)
    whole = top(tmp_path / "a", two, options=options)
    head, history = fit(whole)
    for call in (2, 7, 8):
        with pytest.raises(Stop):
            fit(top(tmp_path / "b", two, options=options, progress=stopping_at(call)))
    last = top(tmp_path / "b", two, options=options)
    other, again = fit(last)
    assert_same(weights_of(last), weights_of(whole))
    np.testing.assert_array_equal(other.weights, head.weights)
    assert figures(again) == figures(history)


@pytest.mark.parametrize(
    ("room", "said", "views"), [(80, "2 are kept", ["1", "2"]), (40, "the whole network", [])]
)
def test_what_does_not_fit_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, room: int, said: str, views: list[str]
) -> None:
    """There are 30 images to learn from and 12 that are held out."""
    watched = Watched()
    caplog.set_level(logging.WARNING)
    fit(top(tmp_path, replace(KEPT, most_bytes=room * ROW_BYTES), progress=watched))
    assert watched.views == views
    assert said in caplog.text


def test_a_full_disk_ends_it_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    given = top(tmp_path)
    before = weights_of(given)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=f"{tmp_path}.*No space left.*--cached-gb"):
        fit(given)
    assert_same(weights_of(given), before)


def test_rows_have_no_name_that_a_kill_could_leave(tmp_path: Path) -> None:
    names: set[str] = set()

    def look(epoch: Epoch) -> None:
        names.update(path.name.split("-")[0] for path in tmp_path.iterdir())

    fit(top(tmp_path, callback=look))
    assert names <= {"state.json", "metrics.jsonl", "state", "best"}
