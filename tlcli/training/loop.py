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
from tlcli.training.checkpoint import Arrays, Checkpoints, Epoch, Score, TrainingHistory
from tlcli.training.image_source import Source
from tlcli.training.learner import Learner
from tlcli.training.order import Columns

log = logging.getLogger(__name__)

SECONDS_BETWEEN_SAVES = 300.0
"""Within an epoch; the state is saved at the end of each epoch too."""

Callback = Callable[[Epoch], None]
"""Told of each epoch."""


@dataclass(frozen=True)
class Job:
    """What is learned from, how, and where the state is kept."""

    source: Source
    columns: Columns
    """(n,) class columns; zeros where there are no labels."""
    options: TrainingOptions
    batch_size: int
    checkpoints: Checkpoints
    resume: bool
    callback: Callback
    progress: Progress
    agreed: Callable[[int], int] = int
    """See `signals.Waiting`."""


def train(learner: Learner, job: Job) -> TrainingHistory:
    """Train until the last epoch or until nothing improves; the weights end as the best ones.

    A signal to stop waits for the end of the step, then the state is saved.

    Raises:
        UsageError: the loss is no longer finite; the saved state is of the last epoch.
        StorageError: the state cannot be saved; the one before is intact.
    """
    with signals.held(job.agreed) as waiting:
        loop = _Loop.begin(learner, job, waiting)
        while not loop.finished:
            loop.epoch()
    learner.set_result(loop.best)
    return loop.history


@dataclass
class _Loop:
    learner: Learner
    job: Job
    waiting: Waiting
    history: TrainingHistory
    best: Arrays
    fresh: bool = True
    """Whether `best` has not been saved yet."""
    saved: float = 0.0
    """When the state was saved, on the monotonic clock."""

    @staticmethod
    def begin(learner: Learner, job: Job, waiting: Waiting) -> "_Loop":
        """From the saved state, or from the start."""
        if job.resume and not job.checkpoints.outdated and (found := job.checkpoints.load()):
            history, values, best = found
            _require_no_fewer(job.options.epochs, len(history.epochs))
            job.checkpoints.require_like(values, learner.values())
            job.checkpoints.require_like(best, learner.result())
            learner.restore(values)
            log.info("continuing after epoch %d, step %d", len(history.epochs), history.steps)
            return _Loop(learner, job, waiting, history, best, False, time.monotonic())
        if job.checkpoints.exists:
            reason = "it started from another round" if job.resume else "--resume continues one"
            log.warning("an interrupted training is given up: %s", reason)
            job.checkpoints.discard()
        start = Score(0.0, 0.0)
        if learner.keeps_best:
            start = learner.measure(lambda: waiting.deliver(lambda: None))
        peak = job.options.lr or _found_rate(learner, job, waiting)
        history = TrainingHistory(start, peak)
        return _Loop(learner, job, waiting, history, learner.result(), True, time.monotonic())

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to train."""
        done, options = len(self.history.epochs), self.job.options
        stopped = self.learner.keeps_best and done - self.history.best >= options.patience
        return stopped or done >= options.epochs

    @property
    def steps(self) -> int:
        """Of an epoch."""
        batches = len(self.job.source) / self.job.batch_size
        return math.floor(batches) if self.learner.whole_batches else math.ceil(batches)

    def epoch(self) -> None:
        """Learn from every image once, measure, save."""
        self._learn()
        began = time.monotonic()
        measured = self.learner.measure(self._pause)
        entry = self._entry(measured, time.monotonic() - began)
        self._close(entry)
        self.job.callback(entry)
        self._save()

    def _close(self, entry: Epoch) -> None:
        """Add an epoch to the course, and keep its weights where they are the best so far."""
        history = self.history
        better = not history.best or not self.learner.keeps_best or entry.measured > history.kept
        if better:
            self.best, self.fresh = self.learner.result(), True
        number = entry.epoch if better else history.best
        self.history = TrainingHistory(
            history.start, history.peak, (*history.epochs, entry), number
        )

    def _learn(self) -> None:
        job, order, epoch = self.job, self._order(), len(self.history.epochs) + 1
        phase = f"epoch {epoch}/{job.options.epochs}{self._so_far}"
        done = min(self.history.steps * job.batch_size, len(order))
        began = time.monotonic()
        source = job.source.seen_in(epoch, self._pause)
        job.progress(phase, done, len(order))
        if not self.history.steps:
            self.learner.begin(epoch)
        for pixels in source.batches(order[done:], job.batch_size):
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
        """The rows of the images in the order of this epoch."""
        job, epoch = self.job, len(self.history.epochs) + 1
        order = self.learner.order(job.columns, job.options.seed, epoch)
        return order[: self.steps * job.batch_size]

    @property
    def _so_far(self) -> str:
        """The figures of the last epoch, for those who watch."""
        if not self.history.epochs:
            return ""
        last = self.history.epochs[-1]
        return f": loss {last.loss:.3f}, held-out accuracy {last.validation_accuracy:.1%} before it"

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        history, epochs = self.history, self.job.options.epochs
        step = len(history.epochs) * self.steps + history.steps
        return schedule.rate_at(step, epochs * self.steps, history.peak)

    def _count(self, loss: float, hits: float, images: int, seconds: float) -> None:
        history = self.history
        if not math.isfinite(loss):
            number, step = len(history.epochs) + 1, history.steps + 1
            kept = "The last saved state is kept; b" if self.job.checkpoints.exists else "B"
            raise UsageError(
                f"Expected a finite loss. Received: {loss} in epoch {number} at step {step}. "
                f"{kept}egin anew with a smaller --lr than {history.peak:g}."
            )
        self.history = replace(
            history,
            steps=history.steps + 1,
            loss=history.loss + loss * images,
            hits=history.hits + hits * images,
            seconds=history.seconds + seconds,
        )

    def _entry(self, measured: Score, seconds: float) -> Epoch:
        """The figures of the epoch whose steps are done."""
        history, images = self.history, len(self._order())
        last = replace(history, steps=history.steps - 1)
        entry = Epoch(
            epoch=len(history.epochs) + 1,
            lr=replace(self, history=last).rate,
            loss=history.loss / images,
            accuracy=history.hits / images,
            validation_loss=-measured.negative_loss,
            validation_accuracy=measured.accuracy,
            seconds=round(history.seconds + seconds, 3),
            images_per_second=round(images / history.seconds, 1),
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
        epochs, steps = len(self.history.epochs), self.history.steps
        log.warning(
            "the training is kept as it is after epoch %d and %d steps; the same command with "
            "--resume goes on from there",
            epochs,
            steps,
        )

    def _save(self) -> None:
        self.job.checkpoints.save(self.history, self.learner.values(), self.best, self.fresh)
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
    order = learner.order(job.columns, job.options.seed, 0)
    needed = schedule.SEARCH_STEPS * job.batch_size
    rows = np.resize(order, needed)
    learner.begin(0)
    source = job.source.seen_in(0, lambda: waiting.deliver(lambda: None))
    batches = source.batches(rows, job.batch_size)
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
