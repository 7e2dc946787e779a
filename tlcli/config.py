"""What each command can be told: frozen dataclasses that hold the defaults, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str, int, int], None]
"""Called as progress(phase, done, total) while a phase runs; total 0 means unknown."""


def no_progress(phase: str, done: int, total: int) -> None:
    """Report nothing: the default of every stage."""


@dataclass(frozen=True)
class DataOptions:
    """How images are taken in."""

    max_bad: float = 0.01
    """Share of unusable images (0 to 1) above which the command stops."""


@dataclass(frozen=True)
class TrainingOptions:
    """Gradient training of a backbone together with a softmax head."""

    epochs: int = 10
    lr: float = 1e-3
    """Learning rate of the head (Adam)."""
    backbone_lr_factor: float = 0.1
    """The backbone learns with lr × this factor."""
    batch_size: int = 32
    patience: int = 3
    """Epochs without a better validation accuracy after which training ends."""
    seed: int = 0


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
    head: str = "lda"
    test: str | None = None
    images: DataOptions = DataOptions()
    training: TrainingOptions = TrainingOptions()
    """Used with `weights` none alone."""
    engine: str = "auto"
    keras_model: bool = True
    """Whether the round holds `model.keras`."""
    wait: float = 0.0


@dataclass(frozen=True)
class ExportConfig:
    """Write the current round as a file that other programs use."""

    run: Path
    out: Path
    format: str = "keras"


@dataclass(frozen=True)
class ExtendConfig:
    """The next round: new classes, or more images of known ones."""

    run: Path
    data: str
    strategy: str | None = None
    """None: merge where the head can be solved from moments, else freeze-old."""
    head: str | None = None
    """None: the head of the current round."""
    test: str | None = None
    images: DataOptions = DataOptions()
    engine: str = "auto"
    keras_model: bool = True
    wait: float = 0.0


@dataclass(frozen=True)
class FinetuneConfig:
    """Train the top of the backbone, then rebuild what depended on its features."""

    run: Path
    data: str
    unfreeze: str = "3"
    """A number of blocks counted from the output, `all`, or a layer-name prefix."""
    test: str | None = None
    images: DataOptions = DataOptions()
    training: TrainingOptions = TrainingOptions()
    engine: str = "auto"
    keras_model: bool = True
    wait: float = 0.0


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure the current round, and every earlier one, on labelled images."""

    run: Path
    data: str
    ignore_unknown: bool = False
    fail_under: float | None = None
    max_regression: float | None = None
    images: DataOptions = DataOptions()
    engine: str = "auto"


@dataclass(frozen=True)
class PredictConfig:
    """Label images with the current round."""

    run: Path
    paths: tuple[str, ...]
    top: int = 5
    engine: str = "auto"
