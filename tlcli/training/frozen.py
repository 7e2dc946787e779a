"""The frozen part of a network runs once for each view of an image; what it gave is kept.

A view is an image as one epoch sees it, changed at random. With K views, epoch e learns from view
(e - 1) mod K + 1: the first K epochs see what they would see if nothing were kept. What the frozen
part makes of a view is a row of floats, and only the layers that learn run on it.

Views are functions of the seed, their number and the images. They are no part of the saved state: a
training that is continued computes them again. Rows lie in a file without a name, whose space is
free again however the process ends.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones, engines, files
from tlcli.backbones import Halves
from tlcli.config import Progress
from tlcli.engines import Engine
from tlcli.errors import StorageError
from tlcli.training.augmentation import Augmenter
from tlcli.training.feature_source import FeatureSource
from tlcli.training.image_source import Check, Pixels, Source
from tlcli.training.order import Columns, Rows
from tlcli.training.supervised import Entry, Labelled, Learning, Lesson, Teacher

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Changed = tuple[Floats, Floats]
"""Images (n, S, S, 3), and one-hot labels (n, C)."""

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Keeping:
    """What may be kept of the frozen part, and what computes it."""

    views: int
    """K, of each image that is learned. 0: nothing is kept, every epoch sees new ones."""
    most_bytes: int
    """On disk."""
    engine: str
    """The name of the one that the features of the backbone come from."""


NOTHING = Keeping(0, 0, "keras")


@dataclass(frozen=True, eq=False)
class Course:
    """How images are gone through, and where rows lie meanwhile."""

    order: Callable[[int], Rows]
    """The rows of the images in the order of an epoch."""
    batch_size: int
    epochs: int
    folder: Path
    progress: Progress


@contextmanager
def kept(network: Learning, lesson: Lesson, keeping: Keeping, course: Course) -> Iterator[Lesson]:
    """For the block, the lesson behind the frozen part; as it is where nothing can be kept.

    Args:
        network: as it is trained.
        lesson: on images.
        keeping: what may be kept.
        course: how they are gone through.

    Raises:
        StorageError: the disk has no room for the rows.
    """
    halves = _cut(network, network.model) if keeping.views else None
    views = 0 if halves is None else _views(halves.width + lesson.labels, keeping, lesson)
    if halves is None or not views:
        yield lesson
        return
    learned, held_out = len(lesson.learned.source), len(lesson.held_out.source)
    there = min(views, course.epochs) * learned + held_out
    with _reserved(course.folder, (there, halves.width + lesson.labels)) as rows:
        engine = engines.of_model(halves.lower, keeping.engine)
        tested = _Once(_Given(lesson.held_out, engine, _plain(lesson)), rows[:held_out])
        seen = _Given(lesson.learned, engine, _changing(lesson))
        spread = rows[held_out:].reshape(-1, learned, rows.shape[1])
        views_of = _Views(seen, spread, views, lesson.entry.changes, course)
        yield Lesson(
            Labelled(views_of, lesson.learned.columns),
            Labelled(tested, lesson.held_out.columns),
            _teacher(network, lesson.teacher),
            _above(halves, lesson),
            lesson.classes,
        )


def _cut(network: Learning, model: Any) -> Halves | None:
    """The halves of a model like the network's: the network itself, or its teacher."""
    return backbones.halves(model, {name for names in network.layers for name in names})


def _teacher(network: Learning, teacher: Teacher | None) -> Teacher | None:
    """The teacher on rows: the network as it was has the same frozen part."""
    halves = None if teacher is None else _cut(network, teacher.model)
    return replace(teacher, model=halves.features) if teacher and halves else None


def _views(width: int, keeping: Keeping, lesson: Lesson) -> int:
    """How many of each image are kept; that there are fewer than wanted is said."""
    learned, held_out = len(lesson.learned.source), len(lesson.held_out.source)
    wanted = keeping.views if lesson.entry.changes.generators else 1
    there = keeping.most_bytes // (_FLOAT_BYTES * width) - held_out
    views = min(wanted, max(there, 0) // learned)
    if views < wanted:
        log.warning(
            "what the frozen layers give of %d views of each image does not fit into %.1f GB: %s",
            wanted,
            keeping.most_bytes / 1e9,
            f"{views} are kept" if views else "every epoch runs the whole network",
        )
    return views


@contextmanager
def _reserved(folder: Path, shape: tuple[int, int]) -> Iterator[Floats]:
    """Rows on disk, which have their space already: written to later, a full disk is a crash."""
    with ExitStack() as opened:
        try:
            with files.saving(folder):
                files.make_folders(folder)
                file = opened.enter_context(tempfile.TemporaryFile(dir=folder))
                os.posix_fallocate(file.fileno(), 0, shape[0] * shape[1] * _FLOAT_BYTES)
        except StorageError as error:
            raise StorageError(f"{error} A smaller --cached-gb needs less.") from error
        yield np.memmap(file, np.float32, "r+", shape=shape)


def _above(halves: Halves, lesson: Lesson) -> Entry:
    """Where rows enter the network; what is behind their W numbers are labels that were mixed."""

    def labels(rows: Any, given: Any) -> tuple[Any, Any]:
        return rows, rows[:, halves.width :] if lesson.labels else given

    changes = Augmenter(lambda rows: rows, labels, [])
    return Entry(halves.features, (halves.width + lesson.labels,), "float32", changes)


def _changing(lesson: Lesson) -> Callable[[Pixels, Columns], Changed]:
    import tensorflow as tf

    entry = lesson.entry
    signature = [tf.TensorSpec((None, *entry.shape), tf.uint8), tf.TensorSpec((None,), tf.int64)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def graph(pixels: Any, columns: Any) -> Any:
        images = entry.changes.change(tf.cast(pixels, tf.float32))
        images, labels = entry.changes.mix(images, tf.one_hot(columns, lesson.classes))
        return images, labels[:, : lesson.labels]

    return lambda pixels, columns: tuple(made.numpy() for made in graph(pixels, columns))


def _plain(lesson: Lesson) -> Callable[[Pixels, Columns], Changed]:
    def images(pixels: Pixels, columns: Columns) -> Changed:
        return pixels.astype(np.float32), np.zeros((len(pixels), lesson.labels), np.float32)

    return images


@dataclass(frozen=True, eq=False)
class _Given:
    """What the frozen part gives of images, computed whenever it is asked for."""

    examples: Labelled
    engine: Engine
    changed: Callable[[Pixels, Columns], Changed]

    def __len__(self) -> int:
        return len(self.examples.source)

    def seen_in(self, epoch: int, check: Check) -> Self:
        """The same."""
        return self

    def batches(self, order: Rows, batch_size: int) -> Iterator[Floats]:
        """See `Source`."""
        done = 0
        for pixels in self.examples.source.batches(order, batch_size):
            columns = self.examples.columns[order[done : done + len(pixels)]]
            images, labels = self.changed(pixels, columns)
            yield np.concatenate([np.stack(list(self.engine.features(images))), labels], axis=1)
            done += len(pixels)


@dataclass(eq=False)
class _Once:
    """Images that are always the same: computed the first time, all of them, and then kept."""

    given: _Given
    rows: Floats
    full: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def seen_in(self, epoch: int, check: Check) -> Self:
        """The same."""
        return self

    def batches(self, order: Rows, batch_size: int) -> Iterator[Floats]:
        """See `Source`."""
        if self.full:
            yield from FeatureSource(self.rows).batches(order, batch_size)
            return
        done = 0
        for rows in self.given.batches(order, batch_size):
            self.rows[order[done : done + len(rows)]] = rows
            done += len(rows)
            yield rows
        self.full = done == len(self.rows)


@dataclass(frozen=True, eq=False)
class _Views:
    """K views of images, each computed when an epoch is the first to want it."""

    given: _Given
    rows: Floats
    """(views that will be wanted, n, W)"""
    views: int
    """K"""
    changes: Augmenter
    course: Course
    _full: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.given)

    def batches(self, order: Rows, batch_size: int) -> Iterator[Floats]:
        """See `Source`: views that are kept nowhere."""
        return self.given.batches(order, batch_size)

    def seen_in(self, epoch: int, check: Check) -> Source:
        """The view of an epoch. The search for a learning rate sees new ones."""
        if not epoch:
            self.changes.begin(0)
            return self
        place = (epoch - 1) % self.views
        if place not in self._full:
            self._fill(place, check)
        return FeatureSource(self.rows[place])

    def _fill(self, place: int, check: Check) -> None:
        """With the images as epoch `place` + 1 sees them: in its order, which decides on them."""
        course, view, done = self.course, place + 1, 0
        order = course.order(view)
        self.changes.begin(view)
        for rows in self.batches(order, course.batch_size):
            self.rows[place, order[done : done + len(rows)]] = rows
            done += len(rows)
            course.progress(f"view {view} through the frozen layers", done, len(order))
            check()
        self._full.add(place)
