"""finetune: train the top of the backbone, then rebuild what depended on its features."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import (
    backbones,
    evaluation,
    extension,
    files,
    heads,
    images,
    memory,
    moments,
    runs,
    training,
)
from tlcli.config import FinetuneConfig, Progress, no_progress
from tlcli.errors import DataError
from tlcli.features import Features
from tlcli.heads import Fit, LinearHead
from tlcli.images import Listing
from tlcli.memory import Memory
from tlcli.moments import Moments
from tlcli.runs import Round, Writer
from tlcli.stages import rounds
from tlcli.stages.rounds import Clock, Draft, Intake, Lens, RoundResult, Solution
from tlcli.training import Trained

log = logging.getLogger(__name__)


def finetune(config: FinetuneConfig, progress: Progress = no_progress) -> RoundResult:
    """Unfreeze the top of the backbone, train it with the head, and commit the next round.

    DATA must hold images of every class of the run: features, moments and head are rebuilt from
    them, because those of the old backbone mean nothing to the new one.

    Raises:
        TlcliError: see errors.py; the run is as it was.
    """
    clock = Clock()
    with runs.extending(config.run, config.wait) as writer:
        parent = writer.run.round()
        listing = rounds.scan(config.data, progress)
        _require_same_classes(listing, parent, config)
        folder = writer.run.backbone_folder(parent.manifest.backbone_fingerprint)
        before = Lens.of(backbones.load_stored(folder), config.engine)
        with clock.phase("features"):
            found = before.features(listing.images, progress)
            skipped = rounds.readable(listing, found, (), config.images.max_bad)
        with clock.phase("training"):
            model, trained = _train(config, parent.manifest.head, before, found, progress)
        after = _store(model, before, config.engine, writer, clock)
        with clock.phase("features"):
            rebuilt = after.features(found.images, progress)
        with clock.phase("head"):
            fit = _head_on_new_features(parent.manifest.head, trained)
            solution = Solution.of(
                after,
                parent.manifest.head,
                fit,
                rebuilt,
                after.moments(rebuilt),
                parent.manifest.classes,
            )
        with clock.phase("validation"):
            validation = solution.validate(writer.next_number, config.test, False, progress)
        remembered = _memory(memory.load(parent.file("memory.h5")), solution)
        draft = Draft(
            command="finetune",
            strategy=None,
            solution=solution,
            memory=remembered,
            exact=remembered.complete and parent.manifest.head in heads.FROM_MOMENTS,
            config=config,
            intake=Intake(len(found.images), found.from_cache, 0, listing.duplicates, skipped),
            validation=validation,
        )
        return rounds.publish(writer, draft, clock)


def _require_same_classes(listing: Listing, parent: Round, config: FinetuneConfig) -> None:
    rounds.require_known_classes(
        listing, parent.classes, "Add them first with `tlcli extend-classes`."
    )
    if missing := set(parent.classes) - set(listing.classes):
        raise DataError(
            f"Expected images of every class of {config.run} in {config.data}. Received: none of "
            f"{rounds.named(missing)}. Give a folder that holds the old and the new images."
        )


def _train(
    config: FinetuneConfig, head: str, before: Lens, found: Features, progress: Progress
) -> tuple[Any, Trained]:
    """The fine-tuned model, from a head that has not seen the held-out images either."""
    model = backbones.load_model(before.stored)
    layers = training.layers_to_train(model, before.stored.name, config.unfreeze)
    held_out = images.holdout(found.hashes, found.labels, evaluation.HELD_OUT)
    kept = found.where(~held_out)
    start = extension.first(head)(before.moments(kept), kept)
    learned, tested = rounds.split(found.images, held_out)
    resolve = None
    if head in heads.FROM_MOMENTS:
        resolve = _resolve(heads.FROM_MOMENTS[head], before, start.classes)
    trained = training.train(
        model, start, layers, learned, tested, config.training, progress, resolve
    )
    log.info(
        "validation accuracy on %d held-out images: %.4f before, %.4f after fine-tuning",
        len(tested),
        trained.start.accuracy,
        trained.best.accuracy,
    )
    if trained.best == trained.start:
        log.warning("fine-tuning gave nothing better than the head alone; try another --lr")
    return model, trained


def _resolve(
    solve: Callable[[Moments], LinearHead], before: Lens, classes: tuple[str, ...]
) -> training.Resolve:
    """The head that will be published, solved from the moments of the features of the moment."""
    stored = before.stored

    def resolve(vectors: NDArray[np.float32], columns: NDArray[np.int64]) -> LinearHead:
        labels = [classes[column] for column in columns]
        return solve(moments.of(vectors, labels, "training", stored.fixed_point_bits))

    return resolve


def _store(model: Any, before: Lens, engine: str, writer: Writer, clock: Clock) -> Lens:
    with clock.phase("backbone"), files.saving(writer.run.path), writer.staging() as staged:
        old = before.stored
        stored = backbones.store(model, old.name, "fine-tuned", staged, old.precision)
        folder = writer.add_backbone(staged, stored.fingerprint)
    return Lens.of(backbones.load_stored(folder), engine)


def _head_on_new_features(head: str, trained: Trained) -> Fit:
    """Solved again where moments allow it, else the head that was trained with the backbone."""
    if head in heads.FROM_MOMENTS:
        return extension.first(head)
    return lambda moments, features: trained.head


def _memory(old: Memory, solution: Solution) -> Memory:
    """The ledger of the images that were given; what is not among them is no longer remembered."""
    learned = dict(zip(solution.found.hashes, solution.found.labels, strict=True))
    forgotten = set(old.ledger) - set(learned)
    if forgotten:
        log.warning(
            "%d images that the run had learned were not given: it no longer remembers them",
            len(forgotten),
        )
    return Memory(solution.total, learned, old.complete and not forgotten)
