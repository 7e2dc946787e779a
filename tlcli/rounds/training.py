"""What the commands that train by gradients have in common: splits, states, what is watched."""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tlcli import backbones, training
from tlcli.config import TrainingOptions, WatchOptions
from tlcli.drift import Drift
from tlcli.errors import StorageError, UsageError
from tlcli.rounds.result import report_of
from tlcli.runs import Round, Writer
from tlcli.training import Checkpoints, TrainingHistory

log = logging.getLogger(__name__)

_LIBRARIES = ("tlcli", "keras", "tensorflow")


def identity_of(
    options: TrainingOptions, engine: str, images: str, classes: Sequence[str]
) -> dict[str, Any]:
    """What decides the result of a training, as JSON values; `epochs` may be raised later."""
    deciding = asdict(options)
    del deciding["epochs"]
    return {
        **{name.replace("_", "-"): value for name, value in deciding.items()},
        "engine": engine,
        "classes": list(classes),
        "images": images,
        **backbones.versions(_LIBRARIES),
    }


def checkpoints_of(writer: Writer, identity: Mapping[str, Any]) -> Checkpoints:
    """Where the training state of a run is kept."""
    return Checkpoints(writer.run.training_folder, identity)


def discard_outdated(writer: Writer) -> None:
    """Remove the state of a training whose round is there: a kill came between the two."""
    state = checkpoints_of(writer, {training.ROUND: writer.next_number - 1})
    if state.outdated:
        state.discard()


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


def warn_of_idle(options: TrainingOptions) -> None:
    """Say which options change nothing, where the head alone is solved."""
    usual = asdict(replace(TrainingOptions(), seed=options.seed))
    given = [name for name, value in asdict(options).items() if value != usual[name]]
    if given:
        log.warning(
            "%s: no effect, as pretrained weights stay as they are, and the head is solved. "
            "`tlcli finetune` trains them afterwards; --weights none trains from random ones",
            ", ".join(f"--{name.replace('_', '-')}" for name in given),
        )


@dataclass(frozen=True)
class Summary:
    """What a round says of the training that it came from."""

    content: dict[str, Any]
    """As JSON values."""
    metrics: bytes
    """A JSON object a line, an epoch each."""
    curves_from: float | None
    """Held-out accuracy before the first epoch; None where epochs are judged by something else."""

    def followed_by(
        self, drift: Drift | None, before: float | None, after: float | None
    ) -> "Summary":
        """The same with what became of memory and head.

        Args:
            drift: how the memory of images that are gone was carried over; None for none.
            before: accuracy on the held-out images of the head on the old backbone, where known.
            after: of the one on the new backbone.
        """
        found = {
            "drift": {"r2": drift.r2, "images": drift.images} if drift else None,
            "head_accuracy_before": before,
            "head_accuracy": after,
        }
        return replace(self, content=self.content | found)


def summary_of(history: TrainingHistory, digest: str) -> Summary:
    """The training of a round.

    Args:
        history: how it went.
        digest: of the images that were at hand, see `images.digest_of`.
    """
    content = {
        "epochs": len(history.epochs),
        "best_epoch": history.best,
        "lr": history.peak,
        "validation_accuracy_before": history.start.accuracy,
        "validation_accuracy": history.kept.accuracy,
        "images_sha256": digest,
        "drift": None,
    }
    return Summary(content, training.lines_of(history.epochs), history.start.accuracy)


def same_images(current: Round, digest: str) -> bool:
    """Whether a round was trained on these images."""
    return bool((report_of(current)["training"] or {}).get("images_sha256") == digest)
