"""The trainings of a network that commands ask for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlcli import backbones
from tlcli.config import AUTO, Progress, TrainingOptions
from tlcli.errors import DataError, UsageError
from tlcli.heads import LinearHead
from tlcli.training import augmentation, contrastive, frozen, loop, metric, supervised
from tlcli.training.checkpoint import Checkpoints, TrainingHistory
from tlcli.training.distribution import ALONE, Distribution
from tlcli.training.frozen import NOTHING, Keeping
from tlcli.training.image_source import Check, ImageSource, Pixels, Source
from tlcli.training.learner import (
    begin_statistics,
    groups_of,
    moving,
    random_states,
    training_mode,
)
from tlcli.training.loop import Callback, Job
from tlcli.training.metric import Below, Float32, Measure, Metric, Projected
from tlcli.training.order import shuffled
from tlcli.training.supervised import (
    Entry,
    Examples,
    Learning,
    Lesson,
    Network,
    SoftmaxTop,
    Start,
    Teacher,
)

SUPERVISED_BATCH = 32
CONTRASTIVE_BATCH = 128
"""Images a step where nothing was asked for; fewer where there are fewer images."""
LEAST_CONTRASTIVE = 2
"""Images without which there is nothing to compare."""


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """What each training is told."""

    model: Any
    """The backbone, raw RGB (n, S, S, 3) → features (n, D); it ends with the best weights."""
    layers: Sequence[Sequence[str]]
    """Names of its layers that learn, see `blocks_to_train`."""
    statistics: bool
    """Whether BatchNormalization learns its statistics."""
    options: TrainingOptions
    checkpoints: Checkpoints
    resume: bool
    callback: Callback
    progress: Progress
    distribution: Distribution = ALONE
    keeping: Keeping = NOTHING
    """Of what the layers below give, where there are labels."""


def fit(
    setting: TrainingSetup,
    start: Start,
    learned: Examples,
    held_out: Examples,
    teacher: Teacher | None = None,
) -> tuple[LinearHead, TrainingHistory]:
    """Train layers of a backbone together with its head.

    Args:
        setting: what is trained and how.
        start: the head to start from, of all classes.
        learned: images to learn from.
        held_out: images that decide which epoch is kept.
        teacher: the network as it was, where some classes have no images.

    Raises:
        DataError: there is nothing to validate on.
        UsageError: the batch is larger than the data, or the loss is no longer finite.
        StorageError: the state cannot be saved.
    """
    size = _batch_size(setting.options, len(learned.source), SUPERVISED_BATCH)
    classes = start.head.classes
    if not len(held_out.source):
        raise DataError(
            "Expected enough images to hold some out for validation. Received: "
            f"{len(learned.source)} in {len(classes)} classes, of which none is held out. "
            "Add images, of other groups where they are grouped."
        )
    _require_agreement(setting)
    with _training(setting, learned.source):
        changes = augmentation.augmenter(setting.options.augment, setting.options.seed)
        entry = Entry.at_images(setting.model, changes)
        length = start.length or _usual_length(entry, learned.source)
        with setting.distribution.scope():
            top = SoftmaxTop.of(start.head, length)
        network = Network(setting.model, setting.layers, top)
        lesson = Lesson(learned, held_out, teacher, entry, len(classes))
        keeping = setting.keeping if setting.distribution is ALONE else NOTHING
        with frozen.kept(network, lesson, keeping, _course(setting, learned, size)) as above:
            learner = supervised.learner(network, above, setting.options, setting.distribution)
            job = _job(setting, above.learned.source, learned.columns, size)
            history = loop.train(learner, job)
    return top.head(), history


def _course(setting: TrainingSetup, learned: Examples, batch_size: int) -> frozen.Course:
    options, folder = setting.options, setting.checkpoints.folder
    return frozen.Course(
        lambda epoch: shuffled(learned.columns, options.seed, epoch),
        batch_size,
        options.epochs,
        folder,
        setting.progress,
    )


@dataclass(frozen=True, eq=False)
class MetricLesson:
    """What a projection is taught, and the layers below it."""

    metric: Metric
    learned: Examples
    vectors: Float32
    """(n, D) features of these images on the backbone as it is."""
    held_out: Examples
    """Images of other classes."""
    bits: int
    """Of the fixed-point grid of the features."""
    measure: Measure
    """How good the descriptors of the held-out images are, which decides the epoch."""


def fit_metric(
    setting: TrainingSetup, lesson: MetricLesson
) -> tuple[Projected, Float32, TrainingHistory]:
    """Train layers of a backbone together with a projection of its features.

    Returns:
        The projection, features (h, D) of the held-out images on the trained backbone, and how it
        went.

    Raises:
        DataError: too few classes have two images.
        UsageError: the batch cannot be filled, the training collapsed, no batch teaches anything,
            or the loss is no longer finite.
        StorageError: the state cannot be saved.
    """
    options, columns = setting.options, lesson.learned.columns
    classes = metric.batch_classes(options, columns)
    start = metric.whitened(metric.Labelled(lesson.vectors, columns), lesson.bits)
    with _training(setting, lesson.learned.source):
        top = metric.Top.of(start.of(lesson.vectors), columns)
        size = classes * metric.IMAGES
        with _behind_frozen(setting, lesson, size) as above:
            infer = supervised.inference(above.entry)

            def features(check: Check) -> Float32:
                return supervised.all_features(infer, above.held_out.source, check)

            learner = metric.learner_of(
                lesson.metric,
                options,
                top,
                _below(setting, above.entry, start),
                classes,
                lambda check: lesson.measure(top.project(start.of(features(check)))),
            )
            history = loop.train(learner, _job(setting, above.learned.source, columns, size))
            return top.after(start), features(lambda: None), history


@contextmanager
def _behind_frozen(
    setting: TrainingSetup, lesson: MetricLesson, size: int
) -> Iterator[supervised.Lesson]:
    """What the frozen layers give of the images, which are not mixed with each other."""
    changes = augmentation.augmenter(setting.options.augment, setting.options.seed)
    entry = Entry.at_images(setting.model, changes.unmixed)
    images = Lesson(lesson.learned, lesson.held_out, None, entry, 0)
    learning = Learning(setting.model, setting.layers)
    course = _course(setting, lesson.learned, size)
    with frozen.kept(learning, images, setting.keeping, course) as above:
        yield above


def _below(setting: TrainingSetup, entry: Entry, start: Projected) -> Below:
    """The layers that learn, behind the frozen ones."""
    import tensorflow as tf

    model, changes = setting.model, entry.changes

    def run(batch: Any) -> Any:
        images = changes.change(tf.cast(batch, tf.float32))
        features = tf.cast(entry.run(images, training=True), tf.float32)
        return tf.matmul(features - start.centre, start.matrix)

    return Below(
        supervised.batch_of(entry),
        run,
        groups_of(model, setting.layers, [], setting.options),
        moving(model, setting.layers),
        [*random_states(model), *changes.generators],
        changes.begin,
    )


def fit_without_labels(
    setting: TrainingSetup, learned: ImageSource, held_out: ImageSource
) -> TrainingHistory:
    """Train a backbone by SimCLR.

    Raises:
        DataError: there are too few images.
        UsageError: the batch is larger than the data, the training collapsed, or the loss is no
            longer finite.
        StorageError: the state cannot be saved.
    """
    if min(len(learned), len(held_out)) < LEAST_CONTRASTIVE:
        raise DataError(
            f"Expected at least {LEAST_CONTRASTIVE} images to learn from and as many held out. "
            f"Received: {len(learned)} and {len(held_out)}. Add images."
        )
    size = _batch_size(setting.options, len(learned), CONTRASTIVE_BATCH)
    with _training(setting, learned):
        model, options = setting.model, setting.options
        learner = contrastive.learner(model, setting.layers, held_out, options, size)
        columns = np.zeros(len(learned), np.int64)
        return loop.train(learner, _job(setting, learned, columns, size))


def _job(setting: TrainingSetup, source: Source, columns: Any, batch_size: int) -> Job:
    return Job(
        source,
        columns,
        setting.options,
        batch_size,
        setting.checkpoints,
        setting.resume,
        setting.callback,
        setting.progress,
        setting.distribution.agreed,
    )


@contextmanager
def _training(setting: TrainingSetup, learned: Source) -> Iterator[None]:
    """The backbone as it is while it is trained."""
    options, model = setting.options, setting.model
    augmentation.require_known(options.augment)
    backbones.keras_module().utils.set_random_seed(options.seed)
    with training_mode(model, setting.layers, setting.statistics, _mixed(options)):
        if setting.statistics:
            begin_statistics(model, _some(learned))
        yield


def _mixed(options: TrainingOptions) -> bool:
    """Whether layers compute in bfloat16."""
    asked = options.mixed_precision
    return asked == "on" or (asked == AUTO and _gains_from_bfloat16())


def _require_agreement(setting: TrainingSetup) -> None:
    """Refuse processes that would not make the same steps."""
    saved = setting.checkpoints
    setting.distribution.require_agreement(
        {
            **saved.identity,
            "epochs": setting.options.epochs,
            "bfloat16": _mixed(setting.options),
            "resume": setting.resume,
            "saved state": saved.digest if setting.resume else None,
        }
    )


def _some(source: Source) -> Pixels:
    """At most 64 images, evenly spaced."""
    rows = np.linspace(0, len(source) - 1, min(len(source), 64)).astype(np.intp)
    (pixels,) = source.batches(rows, len(rows))
    return pixels


def _gains_from_bfloat16() -> bool:
    """Whether there is a GPU with units for it; on CPUs training is no faster with it."""
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    found = [tf.config.experimental.get_device_details(device) for device in devices]
    return any(details.get("compute_capability", (0, 0)) >= (8, 0) for details in found)


def _batch_size(options: TrainingOptions, images: int, usual: int) -> int:
    if options.batch_size is None:
        return min(usual, images)
    if options.batch_size > images:
        raise UsageError(
            f"Expected a batch of at most the {images} images to learn from. Received: "
            f"batch-size={options.batch_size}. Use {min(usual, images)}, or add images."
        )
    return options.batch_size


def _usual_length(entry: Entry, source: Source) -> float:
    """The mean length of the features of some images."""
    features = supervised.inference(entry)(_some(source)).numpy()
    return float(np.linalg.norm(features, axis=1).mean())
