"""Training of a projection: on which images, in which of two ways, and what it gives."""

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import (
    backbones,
    images,
    training,
)
from tlcli.commands.finetune_images import AtHand, keeping_of
from tlcli.config import FinetuneConfig, Progress
from tlcli.errors import DataError
from tlcli.evaluation.retrieval import answers
from tlcli.features import Examples, LearnedProjection
from tlcli.rounds.parent import Parent
from tlcli.rounds.training import (
    checkpoints_of,
    identity_of,
)
from tlcli.runs import Writer
from tlcli.training import (
    Checkpoints,
    ImageSource,
    Labelled,
    Metric,
    MetricLesson,
    MetricSetup,
    Projected,
    TrainingHistory,
    TrainingSetup,
)
from tlcli.training.tensorboard import watch_with

Mask = NDArray[np.bool_]

Float32 = NDArray[np.float32]

Columns = NDArray[np.int64]

log = logging.getLogger(__name__)

UNFREEZE = "none"
"""Without layers that learn, features are computed once, and no image is seen while training."""

HELD_OUT = 0.2
"""Share of the classes on which the projection is judged; at least two."""

LEAST_CLASSES = 4
"""With two images each: two to learn from, and two to judge by."""


def layers_learn(config: FinetuneConfig) -> bool:
    """Whether layers of the backbone are trained with the projection."""
    return config.unfreeze not in (None, UNFREEZE)


@dataclass(frozen=True, eq=False)
class Divided:
    """Images of classes to learn from, and of classes that are held out."""

    learned: Examples
    held_out: Examples

    @staticmethod
    def of(examples: Examples) -> "Divided":
        """Hold out classes that the hash of their names chooses.

        Raises:
            DataError: too few classes have two images.
        """
        counts = Counter(examples.labels)
        able = [name for name, count in counts.items() if count > 1]
        if len(able) < LEAST_CLASSES:
            raise DataError(
                f"Expected at least {LEAST_CLASSES} classes of two or more learned images: two "
                f"to learn from, two to judge it by. Received: {len(able)} of {len(counts)} "
                "classes. Add images, with `tlcli extend-classes` where they are new."
            )
        if alone := len(counts) - len(able):
            log.warning("%d classes have one image, of which no pair can be learned", alone)
        able.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        held_out = able[: max(2, round(HELD_OUT * len(able)))]
        apart: Mask = np.isin(np.array(examples.labels, object), held_out)
        return Divided(examples.where(~apart), examples.where(apart))

    @property
    def columns(self) -> Columns:
        """The columns of the sorted classes of the images to learn from."""
        _, columns = np.unique(np.array(self.learned.labels, object), return_inverse=True)
        return np.asarray(columns, np.int64)

    def measured(self, descriptors: Float32) -> tuple[float, float]:
        """MAP@R and Recall@1 of descriptors of the images held out."""
        return answers(descriptors, self.held_out.labels).measured


@dataclass(frozen=True, eq=False)
class Found:
    """What training gave."""

    projection: LearnedProjection
    tested: Float32
    """Features of the images held out, as the projection sees them."""
    history: TrainingHistory
    model: Any = None
    """The backbone, where layers of it learned."""


def train(
    config: FinetuneConfig,
    metric: Metric,
    parent: Parent,
    divided: Divided,
    at_hand: AtHand,
    writer: Writer,
    progress: Progress,
) -> Found:
    """Train on features that are there, or on images where layers learn too.

    Raises:
        TlcliError: see `training.fit_projection` and `training.fit_metric`.
    """
    training.batch_classes(config.training, divided.columns)
    checkpoints = checkpoints_of(writer, _identity(config, parent, divided))
    if layers_learn(config):
        setting = _network_setup(config, parent, checkpoints, progress)
        lesson = _lesson(metric, parent, divided, at_hand, progress)
        found, tested, history = training.fit_metric(setting, lesson)
        return Found(_named(config, parent, divided, found), tested, history, setting.model)
    alone = MetricSetup(
        metric,
        parent.extractor.bits,
        config.training,
        checkpoints,
        config.watching.resume,
        watch_with(config.watching.tensorboard),
        progress,
    )
    labelled = Labelled(divided.learned.vectors[:], divided.columns)
    tested = divided.held_out.vectors[:]
    found, history = training.fit_projection(alone, labelled, tested, divided.measured)
    return Found(_named(config, parent, divided, found), tested, history)


def _network_setup(
    config: FinetuneConfig, parent: Parent, checkpoints: Checkpoints, progress: Progress
) -> TrainingSetup:
    """Layers of the backbone learn too, and BatchNormalization stays as it is."""
    stored = parent.extractor.stored
    model = backbones.load_model(stored)
    assert config.unfreeze is not None
    return TrainingSetup(
        model,
        training.blocks_to_train(model, stored.name, config.unfreeze),
        False,
        config.training,
        checkpoints,
        config.watching.resume,
        watch_with(config.watching.tensorboard),
        progress,
        keeping=keeping_of(config, parent.extractor),
    )


def _lesson(
    metric: Metric, parent: Parent, divided: Divided, at_hand: AtHand, progress: Progress
) -> MetricLesson:
    """The images themselves."""
    size = parent.extractor.stored.image_size
    learned, held_out = (
        ImageSource.of(part.hashes, at_hand.load, size, progress)
        for part in (divided.learned, divided.held_out)
    )
    return MetricLesson(
        metric,
        training.Examples(learned, divided.columns),
        divided.learned.vectors[:],
        training.Examples(held_out, np.zeros(len(held_out), np.int64)),
        parent.extractor.bits,
        divided.measured,
    )


def _named(
    config: FinetuneConfig, parent: Parent, divided: Divided, found: Projected
) -> LearnedProjection:
    """The projection with where it comes from."""
    classes = tuple(sorted({*divided.learned.labels, *divided.held_out.labels}))
    fingerprint = parent.extractor.stored.fingerprint
    return LearnedProjection(fingerprint, config.objective, classes, found.centre, found.matrix)


def _identity(config: FinetuneConfig, parent: Parent, divided: Divided) -> dict[str, Any]:
    """What decides the result of the training."""
    both = divided.learned.joined(divided.held_out)
    digest = images.digest_of(both.hashes, both.labels)
    counts = f"{len(divided.learned)}+{len(divided.held_out)}, sha256 {digest[:16]}"
    engine = config.runs_on.engine
    place = {"into-backbone": True} if config.into_backbone else {}
    return (
        identity_of(config.training, engine, counts, parent.round.classes)
        | place
        | {
            "objective": config.objective,
            training.ROUND: parent.round.number,
            "backbone": parent.extractor.stored.fingerprint,
        }
    )
