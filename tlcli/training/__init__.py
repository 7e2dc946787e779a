"""Everything with gradients through a backbone.

objectives      what can be learned, and by which command: the table
fitting         the trainings that commands ask for
loop            epochs of steps, measured, kept, continued bit for bit
learner         what the loop trains: groups of variables with optimizers and rates of their own
supervised      a learner with labels: cross-entropy, and distillation where a teacher is given
contrastive     a learner without labels: SimCLR
frozen          what the layers that do not learn give of images, kept while the others learn
metric          a learner of a projection of features, and of layers below it where they learn
schedule        the learning rate of each step; its search
augmentation    random changes of training images: the presets
quick_layers    layers that learn, with the same gradients in less time
adam            AdamW in one operation for each variable
warping         flip, rotation, shift and zoom at once
losses          what is minimised
distribution    which devices share the steps: the table
steps           one step, compiled: on one device, or shared by several
gathering       how they come together
members         TF_CONFIG: which processes train together
order           in which order an epoch goes through the images
split           images to learn from, and those that are held out
image_source    the pixels that are read
feature_source  vectors in place of pixels
checkpoint      the training state on disk
blocks          which layers learn
tensorboard     figures of each epoch for TensorBoard
"""

from tlcli.training.augmentation import PRESETS, SHEETS, augmenter, require_known
from tlcli.training.blocks import ALL, blocks_to_train
from tlcli.training.checkpoint import (
    METRICS,
    ROUND,
    Checkpoints,
    Epoch,
    Score,
    TrainingHistory,
    lines_of,
)
from tlcli.training.distribution import DISTRIBUTIONS, Distribution, begin
from tlcli.training.fitting import (
    MetricLesson,
    TrainingSetup,
    fit,
    fit_metric,
    fit_without_labels,
)
from tlcli.training.frozen import Keeping
from tlcli.training.image_source import ImageSource
from tlcli.training.metric import (
    Labelled,
    Metric,
    MetricSetup,
    Projected,
    batch_classes,
    fit_projection,
)
from tlcli.training.objectives import OBJECTIVES, Objective, objective_of, objectives_of
from tlcli.training.supervised import Examples, Start, Teacher

__all__ = [
    "ALL",
    "DISTRIBUTIONS",
    "METRICS",
    "OBJECTIVES",
    "PRESETS",
    "ROUND",
    "SHEETS",
    "Checkpoints",
    "Distribution",
    "Epoch",
    "Examples",
    "ImageSource",
    "Keeping",
    "Labelled",
    "Metric",
    "MetricLesson",
    "MetricSetup",
    "Objective",
    "Projected",
    "Score",
    "Start",
    "Teacher",
    "TrainingHistory",
    "TrainingSetup",
    "augmenter",
    "batch_classes",
    "begin",
    "blocks_to_train",
    "fit",
    "fit_metric",
    "fit_projection",
    "fit_without_labels",
    "lines_of",
    "objective_of",
    "objectives_of",
    "require_known",
]
