"""The table of objectives: what a whole network can learn from images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tlcli import backbones
from tlcli.errors import require_choice
from tlcli.heads import LinearHead
from tlcli.training.checkpoint import TrainingHistory
from tlcli.training.fitting import TrainingSetup, fit, fit_without_labels
from tlcli.training.supervised import Examples

Train = Callable[[TrainingSetup, tuple[str, ...], Examples, Examples], TrainingHistory]
"""(setting, classes, images to learn from, held-out images) → how it went; the model of the
setting ends with the weights that are kept."""


@dataclass(frozen=True)
class Objective:
    """A row of the table."""

    says: str
    """As the help of `--objective` has it."""
    train: Train
    """The learner that it trains says whether the best epoch is kept, or the last."""
    labels: bool
    """Whether images need labels; without them, classes come in later rounds."""
    pretrained: bool
    """Whether pretrained weights are trained too, and not random ones alone."""
    weights: str
    """Label of the weights that it gives."""


def _train_with_labels(
    setting: TrainingSetup, classes: tuple[str, ...], learned: Examples, held_out: Examples
) -> TrainingHistory:
    """From a head of zeros, which is dropped afterwards."""
    width = int(setting.model.output_shape[1])
    start = LinearHead(
        classes, np.zeros((width, len(classes)), np.float32), np.zeros(len(classes), np.float32)
    )
    _, history = fit(setting, start, learned, held_out)
    return history


def _train_without_labels(
    setting: TrainingSetup, classes: tuple[str, ...], learned: Examples, held_out: Examples
) -> TrainingHistory:
    return fit_without_labels(setting, learned.source, held_out.source)


OBJECTIVES = {
    "supervised": Objective(
        "images with labels",
        _train_with_labels,
        labels=True,
        pretrained=False,
        weights=backbones.RANDOM,
    ),
    "simclr": Objective(
        "images without labels teach the backbone, and classes come later with `extend-classes`",
        _train_without_labels,
        labels=False,
        pretrained=True,
        weights=backbones.UNLABELLED,
    ),
}


def objective_of(name: str) -> Objective:
    """The row of a name; raises UsageError, listing the objectives, where there is none."""
    require_choice("an objective", name, OBJECTIVES)
    return OBJECTIVES[name]
