"""index add, remove, optimize: what can be found."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import images, retrieval, runs
from tlcli.config import IndexAddConfig, IndexRemoveConfig, Progress, no_progress
from tlcli.errors import DataError, UsageError, require_choice
from tlcli.extractor import Extractor
from tlcli.features import Features, Matrix
from tlcli.images import LabelledImage, Listing, Skipped
from tlcli.retrieval import Descriptor, Entry, IndexWriter, Space
from tlcli.retrieval.approximate import EXACT_UNTIL, is_fresh
from tlcli.retrieval.writer import MOST_FILES
from tlcli.rounds.descriptors import ground_of
from tlcli.rounds.intake import named, readable, scan
from tlcli.rounds.names import former, perhaps, said_of
from tlcli.rounds.result import Phases
from tlcli.runs import Round, Run

log = logging.getLogger(__name__)

BLOCK = 4096
"""Descriptors that are made at once."""


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What a command did to an index."""

    run: str
    added: int = 0
    removed: int = 0
    already_there: int = 0
    skipped: tuple[Skipped, ...] = ()
    images: int
    """How many the index holds now."""
    classes: int
    recall: float | None
    """Of the approximate index, where one was built."""
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return vars(self) | {"skipped": [entry.to_json() for entry in self.skipped]}


def add(config: IndexAddConfig, progress: Progress = no_progress) -> Changed:
    """Add the images of DATA, each content once, with the class that DATA names.

    Raises:
        TlcliError: see errors.py; the index is as it was.
    """
    phases = Phases(progress)
    if config.descriptor is not None:
        require_choice("a descriptor", config.descriptor, retrieval.DESCRIPTORS)
    run = runs.open_run(config.run)
    entry = run.round()
    with retrieval.writing(config.run, config.wait) as writer:
        extractor = Extractor.of_round(run, entry, config.runs_on)
        descriptor = _descriptor(config, run, entry, extractor, writer)
        listing = scan(config.data, config.images.columns, progress)
        _warn_of_former(run, listing)
        new, refused = _new(listing, writer)
        with phases.phase("features"):
            found = extractor.features(new, progress)
        skipped = readable(listing, found, refused, config.images.max_bad)
        with phases.phase("save"):
            writer.add(_rows(found), _descriptors(found.vectors, descriptor))
        already = len(listing.images) - len(new) - len(refused)
        return replace(
            _now(config.run, writer, phases, tidied(writer, phases)),
            added=len(found.images),
            already_there=already,
            skipped=skipped,
        )


def _descriptor(
    config: IndexAddConfig, run: Run, entry: Round, extractor: Extractor, writer: IndexWriter
) -> Descriptor:
    """That of the index; an empty one gets that which was asked for."""
    space = Space.of(extractor)
    index = writer.begun
    if index is None:
        ground = ground_of(run, entry, extractor)
        descriptor = retrieval.DESCRIPTORS[config.descriptor or ground.usual].make(ground)
        writer.begin(space, descriptor)
        return descriptor
    index.require_space(space)
    if config.descriptor not in (None, index.descriptor.name):
        raise UsageError(
            f"Expected the descriptor of the index, {index.descriptor.name}. Received: "
            f"{config.descriptor}. Leave --descriptor out, or remove {index.folder} and add the "
            "images again."
        )
    return index.descriptor


def _warn_of_former(run: Run, listing: Listing) -> None:
    """Say of which classes the index gives another name than the run."""
    if told := said_of(listing.classes, former(run.way())):
        log.warning("%sThe index answers with the names of DATA", told)


def _new(listing: Listing, writer: IndexWriter) -> tuple[list[LabelledImage], list[Skipped]]:
    """The images that the index does not hold, and those it holds under another class."""
    held = {
        entry.sha256: entry.label
        for entry in writer.records.of_hashes(image.sha256 for image in listing.images)
    }
    refused = [
        Skipped(str(image.path), f"the index holds it as {held[image.sha256]!r}")
        for image in listing.images
        if held.get(image.sha256, image.label) != image.label
    ]
    return [image for image in listing.images if image.sha256 not in held], refused


def _rows(found: Features[LabelledImage]) -> list[tuple[str, str, str]]:
    return [(image.sha256, image.label, str(image.path.absolute())) for image in found.images]


def _descriptors(vectors: Matrix, descriptor: Descriptor) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(vectors), BLOCK):
        yield descriptor.of(vectors[start : start + BLOCK])


def remove(config: IndexRemoveConfig, progress: Progress = no_progress) -> Changed:
    """Take classes, or images, out of the index.

    Raises:
        TlcliError: see errors.py; the index is as it was.
    """
    phases = Phases(progress)
    runs.open_run(config.run)
    retrieval.require_index(config.run)
    with retrieval.writing(config.run, config.wait) as writer:
        writer.require_begun()
        entries = _of_classes(config, writer) | _of_images(config, writer)
        with phases.phase("save"):
            writer.remove(sorted(entries, key=lambda entry: entry.id))
        now = _now(config.run, writer, phases, tidied(writer, phases))
        return replace(now, removed=len(entries))


def _of_classes(config: IndexRemoveConfig, writer: IndexWriter) -> set[Entry]:
    known = writer.records.labels()
    if unknown := set(config.names) - known.keys():
        raise UsageError(
            f"Expected classes of the index. Received: {named(unknown)}. "
            f"{perhaps(unknown, known)}It holds {named(known)}."
        )
    return set(writer.records.of_labels(config.names))


def _of_images(config: IndexRemoveConfig, writer: IndexWriter) -> set[Entry]:
    paths = list(images.find_images(config.images_of))
    hashes = [key for key in images.content_hashes(paths) if isinstance(key, str)]
    if config.images_of and not hashes:
        raise DataError(
            f"Expected images to remove. Received: none that can be read in {config.images_of[0]}. "
            "Correct --images."
        )
    entries = set(writer.records.of_hashes(dict.fromkeys(hashes)))
    if strange := len(set(hashes)) - len(entries):
        log.warning("%d of %d images of --images are not in the index", strange, len(set(hashes)))
    return entries


def optimize(run: Path, wait: float, progress: Progress = no_progress) -> Changed:
    """Write the rows anew without removed ones, and build the approximate index where it pays.

    Raises:
        TlcliError: see errors.py; the index is as it was.
    """
    phases = Phases(progress)
    runs.open_run(run)
    retrieval.require_index(run)
    with retrieval.writing(run, wait) as writer:
        writer.require_begun()
        with phases.phase("save"):
            writer.compact()
        recall = None
        if _pays(writer):
            with phases.phase("approximate"):
                recall = retrieval.build(writer, progress)
        return _now(run, writer, phases, recall)


def _pays(writer: IndexWriter) -> bool:
    """Whether an approximate index does, and can be made."""
    return writer.records.count() > EXACT_UNTIL and retrieval.available()


def tidied(writer: IndexWriter, phases: Phases) -> float | None:
    """Keep the index fast after a change: few segments, a fresh approximate index."""
    if len(writer.records.files()) > MOST_FILES:
        with phases.phase("save"):
            writer.compact()
    if not _pays(writer) or is_fresh(writer.records):
        return None
    with phases.phase("approximate"):
        return retrieval.build(writer, phases.progress)


def _now(run: Path, writer: IndexWriter, phases: Phases, recall: float | None) -> Changed:
    """What an index is after a command, which says itself what it did."""
    return Changed(
        run=str(run),
        images=writer.records.count(),
        classes=len(writer.records.labels()),
        recall=recall,
        seconds=phases.total(),
    )
