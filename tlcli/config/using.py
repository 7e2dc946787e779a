"""What the commands that measure and use rounds can be told."""

from dataclasses import dataclass
from pathlib import Path

from tlcli.config.options import Columns, DataOptions, RunsOn


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
    retrieval: bool = False
    """Whether descriptors are measured, on classes that the run does not know, and not heads."""
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
