"""What several commands can be told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str, int, int], None]
"""Called as progress(phase, done, total) while a phase runs; total 0 means unknown."""

AUTO = "auto"
"""What an option says that leaves its choice to the program."""

WIDEST = 2**16
"""The longest feature vectors, of a backbone or of a projection: D."""


def no_progress(phase: str, done: int, total: int) -> None:
    """Report nothing: the default of every command."""


@dataclass(frozen=True)
class Columns:
    """What the columns of every table are called that a command is given; None: as usual."""

    path_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    """Images that share a cell of it are never divided between learning and testing."""


@dataclass(frozen=True)
class RunsOn:
    """Where the features of images are computed."""

    engine: str = AUTO
    """What runs the backbone, see `engines.ENGINES`."""
    cluster: str | None = None
    """Address of a Dask scheduler, or `local:N`. None: this process."""


@dataclass(frozen=True)
class DataOptions:
    """How images are taken in."""

    max_bad: float = 0.01
    """Share of unusable images (0 to 1) above which the command stops."""
    columns: Columns = Columns()


@dataclass(frozen=True)
class DrawingOptions:
    """How images become the square that a backbone takes, for the life of the run.

    None: as in the run whose weights are taken, or the default.
    """

    fit: str | None = None
    """A row of `images.FITS`."""
    white_level: int | None = None
    """The value of 16-bit grey that is white, in files that do not say so themselves."""


@dataclass(frozen=True)
class ReadingOptions:
    """What of a backbone's network becomes the feature vector, for the life of the run.

    None: as in the run whose weights are taken, or the default.
    """

    layers: str | None = None
    """A row of `backbones.LAYERS`."""
    views: int | None = None
    """1, or 2: the mean over the image and its mirror image."""


@dataclass(frozen=True)
class HeadOptions:
    """How a head is solved; None: as in the current round, or the default in the first."""

    head: str | None = None
    shrinkage: str | None = None
    priors: str | None = None
    class_weights: str | None = None
    c: str | None = None


@dataclass(frozen=True)
class StrategyOptions:
    """How a round learns from the images at hand, where its strategy uses gradients."""

    strategy: str | None = None
    """None: merge where the head can be solved from moments, else joint or freeze-old."""
    distillation_weight: float | None = None
    """Of lwf. None: the share of old classes among all."""
    distillation_temperature: float | None = None
    """Of lwf. None: 2."""
    bias_correction: str | None = None
    """Of replay: `none`, `wa` or `bic`. None: wa."""


@dataclass(frozen=True)
class MemoryOptions:
    """What the run remembers; None: as in the current round, or the default in the first."""

    memory: str | None = None
    exemplars_per_class: int | None = None


@dataclass(frozen=True)
class TrainingOptions:
    """Gradient training of a backbone: all that decides its result, but for the data."""

    epochs: int = 10
    lr: float | None = 3e-3
    """Largest learning rate of the head (AdamW). None: found by a search."""
    backbone_lr_factor: float = 0.1
    """The block next to the output learns with lr × this factor."""
    layer_decay: float = 0.9
    """Each block below learns with this share of the rate of the block above it."""
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    """Largest norm of all gradients together."""
    augment: str = "standard"
    """A preset, see `training.PRESETS`."""
    batch_size: int | None = None
    """None: 32, 128 without labels, or 4 of each of 16 classes for a projection; fewer where there
    are fewer images."""
    patience: int = 5
    """Epochs without a better validation accuracy after which training ends."""
    mixed_precision: str = "auto"
    """`on`: layers compute in bfloat16, weights stay in float32; `off`; or `auto`: on where a GPU
    gains from it."""
    seed: int = 0


ONE_DEVICE = "none"
"""What says that a training runs on one device."""


@dataclass(frozen=True)
class WatchOptions:
    """How a training is continued and watched; its result does not depend on it."""

    resume: bool = False
    tensorboard: Path | None = None
    """Folder for TensorBoard's event files."""
