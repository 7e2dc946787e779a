"""What the commands that train by gradients have in common: splits, states, what is watched."""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones, evaluation, images, memory, training
from tlcli.config import FinetuneConfig, PretrainConfig, Progress, TrainingOptions, WatchOptions
from tlcli.drift import Drift
from tlcli.errors import StorageError, UsageError
from tlcli.runs import Round, Writer
from tlcli.training import Course, Epoch, Examples, Keeper, Pictures, Setting

_LIBRARIES = ("tlcli", "keras", "tensorflow")


@dataclass(frozen=True, eq=False)
class Split:
    """Images to learn from and held-out ones, decoded where memory allows."""

    learned: Examples
    held_out: Examples
    digest: str
    """See `digest_of`."""
    load: memory.Pixels

    def pixels(self, hashes: Sequence[str]) -> NDArray[np.uint8]:
        """The images (n, S, S, 3) with these content hashes; decoded ones are not read again."""
        places = self._places
        if not places.keys() >= set(hashes):
            return self.load(hashes)
        return np.stack([decoded[row] for decoded, row in map(places.__getitem__, hashes)])

    @cached_property
    def _places(self) -> dict[str, tuple[NDArray[np.uint8], int]]:
        return {
            key: (part.pictures.decoded, row)
            for part in (self.learned, self.held_out)
            if part.pictures.decoded is not None
            for row, key in enumerate(part.pictures.hashes)
        }


def digest_of(hashes: Sequence[str], labels: Sequence[str]) -> str:
    """SHA-256 of the content and the class of every image, whatever their order."""
    lines = sorted(f"{key} {label}\n" for key, label in zip(hashes, labels, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def split(
    hashes: Sequence[str],
    labels: Sequence[str],
    classes: Sequence[str],
    load: memory.Pixels,
    size: int,
    progress: Progress,
) -> Split:
    """Hold out a share of the images that their content hash chooses.

    Args:
        hashes: of the images; in their order nothing depends on.
        labels: their classes; without classes, any text.
        classes: in the order of the head's columns; empty without labels.
        load: gives their pixels.
        size: of the pixels.
        progress: told the phase "decoding".
    """
    digest = digest_of(hashes, labels)
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    hashes, labels = [hashes[row] for row in order], [labels[row] for row in order]
    column = {name: place for place, name in enumerate(classes)}
    columns = np.array([column.get(label, 0) for label in labels], np.int64)
    held_out = images.holdout(hashes, labels, evaluation.HELD_OUT)

    def part(mask: NDArray[np.bool_]) -> Examples:
        chosen = [key for key, wanted in zip(hashes, mask, strict=True) if wanted]
        return Examples(Pictures.of(chosen, load, size, progress), columns[mask])

    return Split(part(~held_out), part(held_out), digest, load)


def identity(
    config: FinetuneConfig | PretrainConfig, split: Split, classes: Sequence[str]
) -> dict[str, Any]:
    """What decides the result of a training, as JSON values; `epochs` may be raised later."""
    options = asdict(config.training)
    del options["epochs"]
    unfreeze = {}
    if isinstance(config, FinetuneConfig):
        unfreeze = {
            "unfreeze": config.unfreeze,
            "train-batch-norm": config.train_batch_norm,
            "distillation-weight": config.distillation_weight,
        }
    return {
        **{name.replace("_", "-"): value for name, value in options.items()},
        **unfreeze,
        "engine": config.engine,
        "classes": list(classes),
        "images": f"{len(split.learned.pictures)}+{len(split.held_out.pictures)}, "
        f"sha256 {split.digest[:16]}",
        **backbones.versions(_LIBRARIES),
    }


def keeper(writer: Writer, identity: Mapping[str, Any]) -> Keeper:
    """Where the training state of a run is kept."""
    return Keeper(writer.run.training_folder, identity)


def setting(
    config: FinetuneConfig | PretrainConfig,
    model: Any,
    layers: Sequence[Sequence[str]],
    statistics: bool,
    kept: Keeper,
    progress: Progress,
) -> Setting:
    """What `training.fit` is told."""
    return Setting(
        model,
        layers,
        statistics,
        config.training,
        kept,
        config.watching.resume,
        _watch(config.watching.tensorboard),
        progress,
    )


def require_options(options: TrainingOptions, watching: WatchOptions) -> None:
    """Refuse, before any image is read, what cannot be trained or watched.

    Raises:
        UsageError: there is no such augmentation, or TensorBoard is not installed.
        StorageError: nothing can be written for TensorBoard.
    """
    training.require_known(options.augment)
    if watching.tensorboard is not None:
        if importlib.util.find_spec("tensorboard") is None:
            raise UsageError(
                "Expected TensorBoard for --tensorboard. Received: it is not installed. "
                "Run pip install 'tlcli[tensorboard]', or leave --tensorboard out."
            )
        try:
            watching.tensorboard.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"Expected a folder for TensorBoard. Received: {watching.tensorboard}, "
                f"{error.strerror}. Choose another --tensorboard."
            ) from error


def _watch(folder: Path | None) -> Callable[[Epoch], None]:
    """Writes the figures of each epoch as TensorBoard's event files."""
    if folder is None:
        return lambda epoch: None
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(folder))

    def watch(epoch: Epoch) -> None:
        figures = asdict(epoch)
        number = figures.pop("epoch")
        with writer.as_default(step=number):
            for name, value in figures.items():
                tf.summary.scalar(name, value)
        writer.flush()

    return watch


@dataclass(frozen=True)
class Summary:
    """What a round says of the training that it came from."""

    content: dict[str, Any]
    """As JSON values."""
    metrics: bytes
    """A JSON object a line, an epoch each."""


def summary(course: Course, digest: str, drift: Drift | None = None) -> Summary:
    """The training of a round.

    Args:
        course: how it went.
        digest: of the images that were at hand, see `digest_of`.
        drift: how the memory of images that are gone was carried over.
    """
    content = {
        "epochs": len(course.epochs),
        "best_epoch": course.best,
        "lr": course.peak,
        "validation_accuracy_before": course.start.accuracy,
        "validation_accuracy": course.kept.accuracy,
        "images_sha256": digest,
        "drift": {"r2": drift.r2, "images": drift.images} if drift else None,
    }
    return Summary(content, training.lines_of(course.epochs))


def same_images(current: Round, digest: str) -> bool:
    """Whether a round was trained on these images."""
    report = json.loads(current.file("report.json").read_text("utf-8"))
    return bool((report.get("training") or {}).get("images_sha256") == digest)
