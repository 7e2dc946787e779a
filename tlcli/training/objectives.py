"""The table of objectives: what can be learned from images by gradients, and by which command."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tlcli import backbones
from tlcli.errors import UsageError, require_choice
from tlcli.heads import LinearHead
from tlcli.training import losses
from tlcli.training.checkpoint import TrainingHistory
from tlcli.training.fitting import TrainingSetup, fit, fit_without_labels
from tlcli.training.metric import Metric
from tlcli.training.supervised import Examples, Start

Train = Callable[[TrainingSetup, tuple[str, ...], Examples, Examples], TrainingHistory]
"""(setting, classes, images to learn from, held-out images) → how it went; the model of the
setting ends with the weights that are kept."""


@dataclass(frozen=True)
class Objective:
    """A row of the table."""

    says: str
    """As the help of `--objective` has it."""
    commands: tuple[str, ...]
    """Which can be told it."""
    labels: bool = True
    """Whether images need labels; without them, classes come in later rounds."""
    train: Train | None = None
    """How a whole network is trained. The learner says whether the best epoch is kept, or the
    last."""
    pretrained: bool = False
    """Whether pretrained weights are trained too, and not random ones alone."""
    weights: str = ""
    """Label of the weights that it gives a whole network."""
    metric: Metric | None = None
    """What trains a projection of the features, which remains; the backbone stays as it is."""


def _train_with_labels(
    setting: TrainingSetup, classes: tuple[str, ...], learned: Examples, held_out: Examples
) -> TrainingHistory:
    """From a head of zeros, which is dropped afterwards."""
    width = int(setting.model.output_shape[1])
    head = LinearHead(
        classes, np.zeros((width, len(classes)), np.float32), np.zeros(len(classes), np.float32)
    )
    _, history = fit(setting, Start(head), learned, held_out)
    return history


def _train_without_labels(
    setting: TrainingSetup, classes: tuple[str, ...], learned: Examples, held_out: Examples
) -> TrainingHistory:
    return fit_without_labels(setting, learned.source, held_out.source)


OBJECTIVES = {
    "supervised": Objective(
        "images with labels",
        ("pretrain", "finetune"),
        train=_train_with_labels,
        weights=backbones.RANDOM,
    ),
    "simclr": Objective(
        "images without labels teach the backbone, and classes come later with `extend-classes`",
        ("pretrain",),
        labels=False,
        train=_train_without_labels,
        pretrained=True,
        weights=backbones.UNLABELLED,
    ),
    "triplet": Objective(
        "each image is nearer to those of its class than to others by a margin, learned from "
        "semi-hard triplets",
        ("finetune",),
        metric=Metric(losses.triplet, proxies=False),
    ),
    "multi-similarity": Objective(
        "the same from all pairs of a batch, the harder the more",
        ("finetune",),
        metric=Metric(losses.multi_similarity, proxies=False),
    ),
    "proxy-anchor": Objective(
        "images are drawn to a learned vector of their class, and vectors push others away",
        ("finetune",),
        metric=Metric(losses.proxy_anchor, proxies=True),
    ),
    "softmax-margin": Objective(
        "a softmax of the similarities with such vectors, that of the own class less a margin",
        ("finetune",),
        metric=Metric(losses.softmax_margin, proxies=True),
    ),
}


def objectives_of(command: str) -> dict[str, Objective]:
    """The rows that a command can be told."""
    return {name: row for name, row in OBJECTIVES.items() if command in row.commands}


def objective_of(name: str, command: str) -> Objective:
    """The row of a name.

    Raises:
        UsageError: there is none, or it is for another command, which is named.
    """
    known = objectives_of(command)
    if name in OBJECTIVES and name not in known:
        others = " and ".join(f"`tlcli {other}`" for other in OBJECTIVES[name].commands)
        raise UsageError(
            f"Expected an objective of `tlcli {command}`: {', '.join(known)}. Received: "
            f"objective={name!r}, which is one of {others}. Use that command, or choose one of "
            "these."
        )
    require_choice("an objective", name, known)
    return known[name]
