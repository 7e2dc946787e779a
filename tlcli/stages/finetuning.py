"""finetune: train the top of the backbone, then rebuild what depended on its features."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones, evaluation, extension, files, images, moments, runs, training
from tlcli.config import FinetuneConfig, MemoryOptions, Progress, no_progress
from tlcli.errors import DataError
from tlcli.features import Features
from tlcli.heads import Fit, Known, LinearHead, Recipe
from tlcli.images import Listing
from tlcli.memory import Memory
from tlcli.runs import Round, Writer
from tlcli.stages import parents, rounds
from tlcli.stages.lenses import Lens
from tlcli.stages.parents import Parent
from tlcli.stages.rounds import Clock, Draft, Intake, RoundResult, Solution
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
        parent = Parent.of(writer.run, config.engine)
        before, recipe = parent.lens, parent.recipe
        listing = rounds.scan(config.data, progress)
        _require_same_classes(listing, parent.round, config)
        _, refused = rounds.fresh(listing, parent.memory.ledger)
        relabelled = {entry.path for entry in refused}
        usable = [image for image in listing.images if str(image.path) not in relabelled]
        with clock.phase("features"):
            found = before.features(usable, progress)
            skipped = rounds.readable(listing, found, refused, config.images.max_bad)
        with clock.phase("training"):
            model, trained = _train(config, recipe, before, found, progress)
        after = _store(model, before, config.engine, writer, clock)
        with clock.phase("features"):
            rebuilt = after.features(found.images, progress)
        with clock.phase("head"):
            fit = _head_on_new_features(recipe, after, trained)
            known = _known(after, rebuilt)
            solution = Solution.of(after, recipe, fit, known, parent.round.manifest.classes)
        with clock.phase("validation"):
            held_out = solution.held_out(evaluation.by_holdout, old_too=False)
            calibrated = solution.calibrated(held_out, None)
            validation = calibrated.validation(
                held_out, config.test, (), writer.next_number, progress
            )
        with clock.phase("memory"):
            remembered = _memory(parent.memory, after, rebuilt, known)
        draft = Draft(
            command="finetune",
            strategy=None,
            solution=calibrated.solution,
            memory=remembered,
            exact=remembered.exact and recipe.from_moments,
            config=config,
            intake=Intake(len(found.images), found.from_cache, 0, listing.duplicates, skipped),
            validation=validation,
            calibration=calibrated.figures,
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


def _known(lens: Lens, found: Features) -> Known:
    """All that the head is solved from: the images at hand."""
    nothing = lens.view(lens.nothing())
    return Known(lens.moments(found.examples), lens.view(found.examples), nothing)


def _train(
    config: FinetuneConfig, recipe: Recipe, before: Lens, found: Features, progress: Progress
) -> tuple[Any, Trained]:
    """The fine-tuned model, from a head that has not seen the held-out images either."""
    model = backbones.load_model(before.stored)
    layers = training.layers_to_train(model, before.stored.name, config.unfreeze)
    held_out = images.holdout(found.hashes, found.labels, evaluation.HELD_OUT)
    start = _start(before, recipe, found, held_out)
    learned, tested = rounds.split(found.images, held_out)
    resolve = _resolve(recipe, before, start.classes) if recipe.from_moments else None
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


def _start(
    before: Lens, recipe: Recipe, found: Features, held_out: NDArray[np.bool_]
) -> LinearHead:
    """The head to train with, on the features themselves: gradients do not see a projection."""
    if before.projection is not None:
        before, recipe = replace(before, projection=None), Recipe()
    kept = found.examples.where(~held_out)
    known = Known(before.moments(kept), kept, before.nothing())
    return extension.first(recipe)(known)


def _resolve(recipe: Recipe, before: Lens, classes: tuple[str, ...]) -> training.Resolve:
    """The head that will be published, solved from the moments of the features of the moment."""
    bits = before.stored.fixed_point_bits

    def seen(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors if before.projection is None else before.projection.of(vectors)

    def resolve(vectors: NDArray[np.float32], columns: NDArray[np.int64]) -> training.Logits:
        labels = [classes[column] for column in columns]
        head = recipe.solve(moments.of(seen(vectors), labels, "training", bits))
        return lambda asked: head.logits(seen(asked))

    return resolve


def _store(model: Any, before: Lens, engine: str, writer: Writer, clock: Clock) -> Lens:
    with clock.phase("backbone"), files.saving(writer.run.path), writer.staging() as staged:
        old = before.stored
        stored = backbones.store(model, old.name, backbones.FINE_TUNED, staged, old.precision)
        folder = writer.add_backbone(staged, stored.fingerprint)
    return Lens.of(backbones.load_stored(folder), engine, before.projection)


def _head_on_new_features(recipe: Recipe, lens: Lens, trained: Trained) -> Fit:
    """Solved again, or else the head that was trained with the backbone.

    That head sees the backbone's features: behind a projection it would be of no use.
    """
    if recipe.from_moments or lens.projection is not None:
        return extension.first(recipe)
    return lambda known: trained.head


def _memory(old: Memory, lens: Lens, rebuilt: Features, known: Known) -> Memory:
    """The memory of the images that were given; the others are no longer remembered."""
    forgotten = set(old.ledger) - set(rebuilt.hashes)
    if forgotten:
        log.warning(
            "%d images that the run had learned were not given: it no longer remembers them",
            len(forgotten),
        )
    start = parents.nothing(lens, MemoryOptions(old.setting, old.exemplars_per_class))
    sources = {image.sha256: image for image in rebuilt.images}
    learned = start.learned(
        rebuilt.examples,
        known.moments if start.moments is not None else None,
        lens.engine,
        parents.pixels_of(lens, sources, None),
    )
    return replace(learned, exact=old.exact and not forgotten)
