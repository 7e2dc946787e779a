"""pretrain where the whole network learns: from random weights, or without labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tlcli import backbones, images, training
from tlcli.config import AUTO, PretrainConfig, Progress
from tlcli.errors import BadImage, DataError, UsageError
from tlcli.heads import Recipe
from tlcli.images import LabelledImage, Listing, Skipped, Square
from tlcli.memory.pixels import pixels_of
from tlcli.memory.setting import keeps_first
from tlcli.rounds.backbone import Beginning, size_of
from tlcli.rounds.intake import named, require_test
from tlcli.rounds.training import Summary, checkpoints_of, identity_of, summary_of
from tlcli.runs import Writer
from tlcli.training import Objective, TrainingSetup
from tlcli.training.split import Split, split_images
from tlcli.training.tensorboard import watch_with


@dataclass(frozen=True, eq=False)
class Scratch:
    """A backbone that was trained as a whole."""

    model: Any
    skipped: tuple[Skipped, ...]
    """Files that could not be read."""
    summary: Summary


def require_objective(config: PretrainConfig) -> Objective:
    """The objective that was asked for.

    Raises:
        UsageError: there is none of this name, or nothing could be remembered of its classes.
    """
    objective = training.objective_of(config.objective, "pretrain")
    if not objective.labels and not keeps_first(config.keeping).moments:
        raise UsageError(
            "Expected a memory for the classes that will come. Received: --objective "
            f"{config.objective} with memory={config.keeping.memory!r}. Leave --memory out."
        )
    return objective


def train_network(
    config: PretrainConfig,
    begins: Beginning,
    writer: Writer,
    listing: Listing,
    progress: Progress,
) -> Scratch:
    """Train every layer on the images that validation does not hold out."""
    objective = training.objective_of(config.objective, "pretrain")
    model = begins.model(config.training.seed)
    square = Square.of(size_of(model), begins.drawing)
    usable, skipped = _decodable(config, listing, square, progress)
    classes = listing.classes if objective.labels else ()
    if objective.labels:
        _require_all_classes(config, classes, usable)
        require_test(config.test, config.images.columns, classes, progress)
    setting, split = _setting(config, begins, writer, model, usable, classes, progress)
    assert objective.train is not None
    history = objective.train(setting, classes, split.learned, split.held_out)
    return Scratch(model, skipped, summary_of(history, split.digest))


def _setting(
    config: PretrainConfig,
    begins: Beginning,
    writer: Writer,
    model: Any,
    usable: Sequence[LabelledImage],
    classes: Sequence[str],
    progress: Progress,
) -> tuple[TrainingSetup, Split]:
    square = Square.of(size_of(model), begins.drawing)
    sources = {image.sha256: image for image in usable}
    load = pixels_of(sources, square)
    labels = [image.label for image in usable]
    groups = [image.group_key for image in usable]
    split = split_images(list(sources), labels, classes, load, square.size, progress, groups)
    options = replace(config.training, backbone_lr_factor=1.0, layer_decay=1.0)
    identity = identity_of(options, config.runs_on.engine, split.described, classes) | {
        **begins.reading.choices,
        "objective": config.objective,
        "backbone": begins.name,
        "start": backbones.fingerprint(model, begins.name),
        "drawing": begins.drawing,
    }
    layers = training.blocks_to_train(model, begins.name, training.ALL)
    setting = TrainingSetup(
        model,
        layers,
        True,
        options,
        checkpoints_of(writer, identity),
        config.watching.resume,
        watch_with(config.watching.tensorboard),
        progress,
    )
    return setting, split


def _require_all_classes(
    config: PretrainConfig, classes: Sequence[str], usable: Sequence[LabelledImage]
) -> None:
    """Refuse, before the training, a class that the head could not be solved for afterwards."""
    labels = [image.label for image in usable]
    if lost := set(classes) - set(labels):
        raise DataError(
            f"Expected readable images in every class. Received: none in {named(lost)}. "
            "Repair the files, or remove the class."
        )
    if config.solver.head != AUTO:
        Recipe.of(config.solver).require_images(labels)


def _decodable(
    config: PretrainConfig, listing: Listing, square: Square, progress: Progress
) -> tuple[list[LabelledImage], tuple[Skipped, ...]]:
    """The images that can be read, and the others: a long training must not end at one of these."""
    good, bad = [], list(listing.skipped)
    decoded = images.decode_many(listing.images, square)
    for done, (image, pixels) in enumerate(zip(listing.images, decoded, strict=True), 1):
        if isinstance(pixels, BadImage):
            bad.append(Skipped(str(image.path), str(pixels)))
        else:
            good.append(image)
        progress("checking", done, len(listing.images))
    images.reject_bad(listing.total, bad, config.images.max_bad, listing.lost)
    return good, tuple(bad)
