"""The loop: epochs of steps, measured, watched, kept, and continued bit for bit.

It is our own rather than `fit` because Keras' cannot be interrupted and continued: its early
stopping and its order of images have no state, its files are written in place.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tlcli import signals
from tlcli.config import Progress, TrainingOptions
from tlcli.errors import UsageError
from tlcli.signals import Waiting
from tlcli.training import schedule
from tlcli.training.checkpoint import Arrays, Course, Epoch, Keeper, Measured
from tlcli.training.learner import Columns, Learner
from tlcli.training.pictures import Pictures

log = logging.getLogger(__name__)

SECONDS_BETWEEN_SAVES = 300.0
"""Within an epoch; the state is saved at the end of each epoch too."""

Watch = Callable[[Epoch], None]
"""Told of each epoch."""


@dataclass(frozen=True)
class Job:
    """What is learned from, how, and where the state is kept."""

    pictures: Pictures
    columns: Columns
    """(n,) class columns; zeros where there are no labels."""
    options: TrainingOptions
    batch_size: int
    keeper: Keeper
    resume: bool
    watch: Watch
    progress: Progress


def train(learner: Learner, job: Job) -> Course:
    """Train until the last epoch or until nothing improves; the weights end as the best ones.

    A signal to stop waits for the end of the step, then the state is saved.

    Raises:
        UsageError: the loss is no longer finite; the saved state is of the last epoch.
        StorageError: the state cannot be saved; the one before is intact.
    """
    with signals.held() as waiting:
        loop = _Loop.begin(learner, job, waiting)
        while not loop.finished:
            loop.epoch()
    learner.set_result(loop.best)
    return loop.course


@dataclass
class _Loop:
    learner: Learner
    job: Job
    waiting: Waiting
    course: Course
    best: Arrays
    fresh: bool = True
    """Whether `best` has not been saved yet."""
    saved: float = 0.0
    """When the state was saved, on the monotonic clock."""

    @staticmethod
    def begin(learner: Learner, job: Job, waiting: Waiting) -> "_Loop":
        """From the saved state, or from the start."""
        if job.resume and not job.keeper.outdated and (found := job.keeper.load()):
            course, values, best = found
            _require_no_fewer(job.options.epochs, len(course.epochs))
            learner.restore(values)
            log.info("continuing after epoch %d, step %d", len(course.epochs), course.steps)
            return _Loop(learner, job, waiting, course, best, False, time.monotonic())
        if job.keeper.exists:
            reason = "it started from another round" if job.resume else "--resume continues one"
            log.warning("an interrupted training is given up: %s", reason)
            job.keeper.discard()
        start = Measured(0.0, 0.0)
        if learner.keeps_best:
            start = learner.measure(lambda: waiting.deliver(lambda: None))
        peak = job.options.lr or _found_rate(learner, job, waiting)
        course = Course(start, peak)
        return _Loop(learner, job, waiting, course, learner.result(), True, time.monotonic())

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to train."""
        done, options = len(self.course.epochs), self.job.options
        stopped = self.learner.keeps_best and done - self.course.best >= options.patience
        return stopped or done >= options.epochs

    @property
    def steps(self) -> int:
        """Of an epoch."""
        batches = len(self.job.pictures) / self.job.batch_size
        return math.floor(batches) if self.learner.whole_batches else math.ceil(batches)

    def epoch(self) -> None:
        """Learn from every image once, measure, save."""
        self._learn()
        began = time.monotonic()
        measured = self.learner.measure(self._pause)
        entry = self._entry(measured, time.monotonic() - began)
        self._close(entry)
        self.job.watch(entry)
        self._save()

    def _close(self, entry: Epoch) -> None:
        """Add an epoch to the course, and keep its weights where they are the best so far."""
        course = self.course
        better = not course.best or not self.learner.keeps_best or entry.measured > course.kept
        if better:
            self.best, self.fresh = self.learner.result(), True
        number = entry.epoch if better else course.best
        self.course = Course(course.start, course.peak, (*course.epochs, entry), number)

    def _learn(self) -> None:
        job, order = self.job, self._order()
        phase = f"epoch {len(self.course.epochs) + 1}/{job.options.epochs}{self._so_far}"
        done = min(self.course.steps * job.batch_size, len(order))
        job.progress(phase, done, len(order))
        began = time.monotonic()
        for pixels in job.pictures.batches(order[done:], job.batch_size):
            columns = job.columns[order[done : done + len(pixels)]]
            loss, hits = self.learner.step(pixels, columns, self.rate)
            done += len(pixels)
            now = time.monotonic()
            self._count(loss, hits, len(pixels), now - began)
            began = now
            job.progress(phase, done, len(order))
            self._pause()
            if now - self.saved > SECONDS_BETWEEN_SAVES:
                self._save()

    def _order(self) -> NDArray[np.intp]:
        """The rows of the images in the order of this epoch: a function of (seed, epoch) alone."""
        seed = [self.job.options.seed, len(self.course.epochs) + 1]
        order = np.random.default_rng(seed).permutation(len(self.job.pictures))
        return order[: self.steps * self.job.batch_size]

    @property
    def _so_far(self) -> str:
        """The figures of the last epoch, for those who watch."""
        if not self.course.epochs:
            return ""
        last = self.course.epochs[-1]
        return f": loss {last.loss:.3f}, held-out accuracy {last.validation_accuracy:.1%} before it"

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        course, epochs = self.course, self.job.options.epochs
        step = len(course.epochs) * self.steps + course.steps
        return schedule.rate_at(step, epochs * self.steps, course.peak)

    def _count(self, loss: float, hits: float, images: int, seconds: float) -> None:
        course = self.course
        if not math.isfinite(loss):
            number, step = len(course.epochs) + 1, course.steps + 1
            kept = "The last saved state is kept; b" if self.job.keeper.exists else "B"
            raise UsageError(
                f"Expected a finite loss. Received: {loss} in epoch {number} at step {step}. "
                f"{kept}egin anew with a smaller --lr than {course.peak:g}."
            )
        self.course = replace(
            course,
            steps=course.steps + 1,
            loss=course.loss + loss * images,
            hits=course.hits + hits * images,
            seconds=course.seconds + seconds,
        )

    def _entry(self, measured: Measured, seconds: float) -> Epoch:
        """The figures of the epoch whose steps are done."""
        course, images = self.course, len(self._order())
        last = replace(course, steps=course.steps - 1)
        entry = Epoch(
            epoch=len(course.epochs) + 1,
            lr=replace(self, course=last).rate,
            loss=course.loss / images,
            accuracy=course.hits / images,
            validation_loss=-measured.negative_loss,
            validation_accuracy=measured.accuracy,
            seconds=round(course.seconds + seconds, 3),
            images_per_second=round(images / course.seconds, 1),
        )
        log.info(
            "epoch %d: loss %.4f, validation loss %.4f, validation accuracy %.4f, %.0f images/s",
            entry.epoch,
            entry.loss,
            entry.validation_loss,
            entry.validation_accuracy,
            entry.images_per_second,
        )
        return entry

    def _pause(self) -> None:
        """Stop here, with everything saved, if a signal asks for it."""
        self.waiting.deliver(self._leave)

    def _leave(self) -> None:
        self._save()
        epochs, steps = len(self.course.epochs), self.course.steps
        log.warning(
            "the training is kept as it is after epoch %d and %d steps; the same command with "
            "--resume goes on from there",
            epochs,
            steps,
        )

    def _save(self) -> None:
        self.job.keeper.save(self.course, self.learner.values(), self.best, self.fresh)
        self.fresh, self.saved = False, time.monotonic()


def _require_no_fewer(epochs: int, done: int) -> None:
    if epochs < done:
        raise UsageError(
            f"Expected at least the {done} epochs that are done, with --resume. Received: "
            f"epochs={epochs}. Give more, or leave --resume out to begin anew."
        )


def _found_rate(learner: Learner, job: Job, waiting: Waiting) -> float:
    """The learning rate that a range test finds; weights and random states are as before."""
    before = learner.values()
    order = np.random.default_rng([job.options.seed, 0]).permutation(len(job.pictures))
    needed = schedule.SEARCH_STEPS * job.batch_size
    rows = np.resize(order, needed)
    batches = job.pictures.batches(rows, job.batch_size)
    done = 0

    def loss_at(rate: float) -> float:
        nonlocal done
        pixels = next(batches)
        columns = job.columns[rows[done : done + len(pixels)]]
        done += len(pixels)
        job.progress("learning rate", done, needed)
        waiting.deliver(lambda: None)
        return learner.step(pixels, columns, rate)[0]

    found = schedule.search(loss_at)
    learner.restore(before)
    log.info("learning rate of the head: %.2g", found)
    return found
