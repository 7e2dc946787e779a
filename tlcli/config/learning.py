"""What the commands that make rounds can be told."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tlcli.config.options import (
    ONE_DEVICE,
    DataOptions,
    DrawingOptions,
    HeadOptions,
    MemoryOptions,
    ReadingOptions,
    RunsOn,
    StrategyOptions,
    TrainingOptions,
    WatchOptions,
)


@dataclass(frozen=True)
class PretrainConfig:
    """Round 1: a backbone, a head, and a folder of labelled images."""

    data: str
    out: Path
    backbone: str | None = None
    """None: that of `weights` when it is a run, else the default backbone."""
    weights: str = "imagenet"
    image_size: int | None = None
    """None: the size the backbone was designed for."""
    precision: str | None = None
    """Of the features, f32 or bf16, for the life of the run. None: that of `weights` when it is a
    run, else f32."""
    drawing: DrawingOptions = DrawingOptions()
    reading: ReadingOptions = ReadingOptions()
    solver: HeadOptions = HeadOptions()
    projection: int | None = None
    """Width of a random projection of the features, for the life of the run. None: none, but for
    the head rp-ridge."""
    keeping: MemoryOptions = MemoryOptions()
    test: str | None = None
    images: DataOptions = DataOptions()
    objective: str = "supervised"
    """`supervised`, or `simclr` on images without labels."""
    training: TrainingOptions = TrainingOptions()
    """Used with `weights` none or the objective simclr alone."""
    watching: WatchOptions = WatchOptions()
    runs_on: RunsOn = RunsOn()
    keras_model: bool = True
    """Whether the round holds `model.keras`."""
    wait: float = 0.0


@dataclass(frozen=True)
class AdoptConfig:
    """Round 1 from a classifier that exists."""

    model: str
    """A file, or `imagenet`: a backbone with its own 1000 classes."""
    out: Path
    classes: Path | None = None
    """Names of the classes in the order of the columns, a line each, or Keras' JSON object."""
    scaling: str | None = None
    """What the network wants pixels to look like. None: it says so itself, or labelled images do.
    """
    image_size: int | None = None
    """None: that of the network."""
    drawing: DrawingOptions = DrawingOptions()
    backbone: str | None = None
    """Of `imagenet` alone. None: the default backbone."""
    weights: str | None = None
    """Of `imagenet` alone: a file. None: its published weights."""
    data: str | None = None
    """The images that it was trained on."""
    sample: str | None = None
    """Some unlabelled images of the usual kind."""
    keeping: MemoryOptions = MemoryOptions()
    """Of the images of `data`."""
    test: str | None = None
    images: DataOptions = DataOptions()
    runs_on: RunsOn = RunsOn()
    keras_model: bool = True
    wait: float = 0.0


@dataclass(frozen=True)
class ExtendConfig:
    """The next round: new classes, or more images of known ones."""

    run: Path
    data: str | None
    """None: only files of moments are taken in."""
    moments: tuple[Path, ...] = ()
    """Files of `tlcli moments`, and folders of them."""
    partial: bool = False
    """Whether shards of DATA are learned without the others."""
    learning: StrategyOptions = StrategyOptions()
    solver: HeadOptions = HeadOptions()
    keeping: MemoryOptions = MemoryOptions()
    old_data: str | None = None
    """Images that were learned before, for strategies and memories that need them."""
    sample: str | None = None
    """Some unlabelled images of the usual kind, for strategies without old images."""
    test: str | None = None
    max_regression: float | None = None
    """Largest fall of the accuracy on old classes (0 to 1) with which the round is published."""
    images: DataOptions = DataOptions()
    runs_on: RunsOn = RunsOn()
    keras_model: bool = True
    wait: float = 0.0


@dataclass(frozen=True)
class MomentsConfig:
    """The moments of DATA under a run's backbone, as one file."""

    run: Path
    data: str
    out: Path
    shard: tuple[int, int] | None = None
    """(i, N): only the images that fall to part i of N by their content hash."""
    images: DataOptions = DataOptions()
    runs_on: RunsOn = RunsOn()


@dataclass(frozen=True)
class RemoveConfig:
    """The run as if classes or images had never been learned."""

    run: Path
    names: tuple[str, ...]
    images_of: tuple[str, ...] = ()
    """Files and folders of images to forget, whatever their class."""
    data: str | None = None
    """The images of the classes, where the run and the cache do not know their features."""
    approximate: bool = False
    """Estimate what the images added to the moments where their features are not known."""
    test: str | None = None
    images: DataOptions = DataOptions()
    runs_on: RunsOn = RunsOn()
    keras_model: bool = True
    wait: float = 0.0


@dataclass(frozen=True)
class RenameConfig:
    """Classes have other names, or become one."""

    run: Path
    renames: Mapping[str, str]
    """Class → its new name. Classes that come to have one name are united."""
    test: str | None = None
    images: DataOptions = DataOptions()
    runs_on: RunsOn = RunsOn()
    keras_model: bool = True
    wait: float = 0.0


@dataclass(frozen=True)
class MergeConfig:
    """Two runs on one backbone become one."""

    run_a: Path
    run_b: Path
    out: Path
    solver: HeadOptions = HeadOptions()
    test: str | None = None
    images: DataOptions = DataOptions()
    runs_on: RunsOn = RunsOn()
    keras_model: bool = True
    wait: float = 0.0


@dataclass(frozen=True)
class FinetuneConfig:
    """Train the top of the backbone, then rebuild what depended on its features."""

    run: Path
    data: str
    objective: str = "supervised"
    """Or what trains a projection of the features, a row of `training.OBJECTIVES`."""
    into_backbone: bool = False
    """Whether that projection becomes the end of the backbone, so that heads stand on it."""
    unfreeze: str | None = None
    """A number of blocks counted from the output, `all`, or a layer-name prefix. None: 3 blocks, or
    `none` where a projection is trained, which may go into the backbone with layers that learn."""
    train_batch_norm: bool = False
    """Whether BatchNormalization layers that learn move their statistics."""
    old_data: str | None = None
    """Images that were learned before and are not in `data`."""
    require_exact: bool = False
    """Refuse where images that were learned before are not given."""
    distillation_weight: float | None = None
    """Of the old answers, where classes have no images. None: the share of these classes."""
    cached_views: int = 2
    """How many random views of each image are kept behind the frozen layers, and seen in turn; 0:
    every epoch sees new ones."""
    cached_gb: float = 8.0
    """Most disk space for them, in the run's folder, while it is trained."""
    test: str | None = None
    images: DataOptions = DataOptions()
    training: TrainingOptions = TrainingOptions()
    distribute: str = ONE_DEVICE
    """Which devices share the steps, see `training.DISTRIBUTIONS`."""
    watching: WatchOptions = WatchOptions()
    runs_on: RunsOn = RunsOn()
    keras_model: bool = True
    wait: float = 0.0
