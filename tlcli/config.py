"""What each command can be told: frozen dataclasses that hold the defaults, and nothing else."""

from collections.abc import Callable, Mapping
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
    """None: 32, or 128 without labels; fewer where there are fewer images."""
    patience: int = 5
    """Epochs without a better validation accuracy after which training ends."""
    mixed_precision: str = "auto"
    """`on`: layers compute in bfloat16, weights stay in float32; `off`; or `auto`: on where a GPU
    gains from it."""
    seed: int = 0


@dataclass(frozen=True)
class WatchOptions:
    """How a training is continued and watched; its result does not depend on it."""

    resume: bool = False
    tensorboard: Path | None = None
    """Folder for TensorBoard's event files."""


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
class ExportConfig:
    """Write the current round as a file that other programs use."""

    run: Path
    out: Path
    format: str = "keras"
    int8: bool = False
    """litert alone: weights and activations in 8 bits."""
    calibrate: str | None = None
    """Images that show int8 which values occur: a folder or a table."""
    columns: Columns = Columns()


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
    unfreeze: str = "3"
    """A number of blocks counted from the output, `all`, or a layer-name prefix."""
    train_batch_norm: bool = False
    """Whether BatchNormalization layers that learn move their statistics."""
    old_data: str | None = None
    """Images that were learned before and are not in `data`."""
    require_exact: bool = False
    """Refuse where images that were learned before are not given."""
    distillation_weight: float | None = None
    """Of the old answers, where classes have no images. None: the share of these classes."""
    test: str | None = None
    images: DataOptions = DataOptions()
    training: TrainingOptions = TrainingOptions()
    watching: WatchOptions = WatchOptions()
    runs_on: RunsOn = RunsOn()
    keras_model: bool = True
    wait: float = 0.0


@dataclass(frozen=True)
class RollbackConfig:
    """A round whose content is that of an earlier one."""

    run: Path
    to: int | None = None
    """None: the round that the current one came from."""
    wait: float = 0.0


@dataclass(frozen=True)
class PruneConfig:
    """Old rounds go."""

    run: Path
    keep: int
    """How many of the newest rounds stay."""
    wait: float = 0.0


@dataclass(frozen=True)
class SheetConfig:
    """A contact sheet of augmented images."""

    data: str
    sheet: Path
    """A PNG file."""
    augment: str = "standard"
    """A preset, see `training.PRESETS`."""
    seed: int = 0
    columns: Columns = Columns()


@dataclass(frozen=True)
class DivideConfig:
    """What of DATA is learned, and what is kept for tests."""

    data: str
    run: Path | None = None
    """What it has learned is not new."""
    test: str | None = None
    """What it holds is not learned."""
    hold_out: float = 0.2
    """Share of each class's new images that is set apart for tests, 0 to 0.5."""
    out: Path | None = None
    """A new folder for tables."""
    move_into: Path | None = None
    """A folder that gets the images that are not to be learned."""
    columns: Columns = Columns()


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a round, and every earlier one, on labelled images."""

    run: Path
    data: str
    round: int | None = None
    """None: the current one."""
    all_rounds: bool = False
    """Whether every figure of earlier rounds is measured, not their accuracy alone."""
    against: Path | None = None
    """Another run, to be compared on the same images."""
    ignore_unknown: bool = False
    by: str | None = None
    """A row of `retrieval.BY`, measured beside the head."""
    include_learned: bool = False
    """Whether images that a run has learned are measured too."""
    fail_under: float | None = None
    max_regression: float | None = None
    min_class_accuracy: float | None = None
    images: DataOptions = DataOptions()
    runs_on: RunsOn = RunsOn()


@dataclass(frozen=True)
class PredictConfig:
    """Label images with a round."""

    run: Path
    paths: tuple[str, ...]
    round: int | None = None
    """None: the current one."""
    top: int = 5
    threshold: float = 0.0
    """Smallest probability (0 to 1) of an answer; below it is `unknown`."""
    unknown_at: float | None = None
    """Share of images of known classes whose answer may be `unknown` for their novelty."""
    by: str | None = None
    """A row of `retrieval.BY`. None: the round's head."""
    copy_into: Path | None = None
    """Folder that gets a folder of copies for each class."""
    runs_on: RunsOn = RunsOn()


@dataclass(frozen=True)
class TriageConfig:
    """Images that fit no known class."""

    run: Path
    paths: tuple[str, ...]
    known: str | None = None
    """DATA of known classes to set the limit on. None: what was learned, as far as it is kept or
    cached."""
    false_alarms: float = 0.05
    """Share (above 0, below 1) of images of known classes that may be called novel."""
    min_images: int = 3
    """Of a candidate."""
    columns: Columns = Columns()
    copy_into: Path | None = None
    """Folder that gets a folder of copies for each candidate."""
    runs_on: RunsOn = RunsOn()


@dataclass(frozen=True)
class IndexAddConfig:
    """Images that can be found again from now on."""

    run: Path
    data: str
    descriptor: str | None = None
    """A row of `retrieval.DESCRIPTORS`, for the life of the index. None: as it is, or whitened
    where the run keeps moments."""
    images: DataOptions = DataOptions()
    runs_on: RunsOn = RunsOn()
    wait: float = 0.0


@dataclass(frozen=True)
class IndexRemoveConfig:
    """Images that are not to be found any more."""

    run: Path
    names: tuple[str, ...]
    """Classes."""
    images_of: tuple[str, ...] = ()
    """Files and folders of images, whatever their class."""
    wait: float = 0.0


@dataclass(frozen=True)
class IndexSearchConfig:
    """The images that are most like others."""

    run: Path
    paths: tuple[str, ...]
    count: int = 5
    min_similarity: float = -1.0
    exact: bool = False
    """Whether every image is compared, even where there is an approximate index."""
    runs_on: RunsOn = RunsOn()


@dataclass(frozen=True)
class DuplicatesConfig:
    """Pairs of images that are nearly the same."""

    run: Path
    min_similarity: float = 0.98


@dataclass(frozen=True)
class CompareConfig:
    """The same rounds under several strategies, heads and backbones."""

    data: str
    rounds: str | None = None
    """Classes a round, like `5+1+1` or `5+1...`. None: half of them, then up to five rounds."""
    rounds_file: Path | None = None
    """A CSV file with the columns class,round instead."""
    class_order: int | None = None
    """Seed of the order of the classes. None: sorted."""
    strategies: tuple[str, ...] | None = None
    """None: all."""
    heads: tuple[str, ...] | None = None
    """None: lda, ridge, ncm, softmax and svm."""
    backbones: tuple[str, ...] | None = None
    """None: that of `weights` when it is a run, else the default backbone."""
    weights: str = "imagenet"
    image_size: int | None = None
    """None: the size each backbone was designed for."""
    layers: tuple[str, ...] | None = None
    """Rows of `backbones.LAYERS`. None: those of `weights` when it is a run, else the default."""
    views: tuple[int, ...] | None = None
    """Of 1 and 2. None: as `layers`."""
    folds: int = 5
    exemplars_per_class: int = 20
    """Of replay."""
    report: Path | None = None
    """An HTML file."""
    images: DataOptions = DataOptions()
    runs_on: RunsOn = RunsOn()
