"""evaluate: a round, and the way there, on labelled images."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlcli import evaluation, images, memory, retrieval, runs
from tlcli.commands.evaluate_by import beside
from tlcli.config import EvaluateConfig, Progress, no_progress
from tlcli.errors import DataError, require_choice
from tlcli.evaluation import Comparison, Learned, Limits, Report, RoundHead
from tlcli.extractor import Extractor
from tlcli.features import Features
from tlcli.heads import UnitedHead
from tlcli.images import LabelledImage, Listing
from tlcli.rounds import names
from tlcli.rounds.intake import listed, require_classes, require_known_classes, warn_of_tones
from tlcli.rounds.parent import head_of
from tlcli.runs import Round, Run

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig, progress: Progress = no_progress) -> Report:
    """Measure a run on labelled images; failed gates are in the report, not raised.

    Every round's head is measured on the same images, each under its own backbone.

    Raises:
        TlcliError: see errors.py.
    """
    if config.by is not None:
        require_choice("a way to answer", config.by, retrieval.BY)
    run = runs.open_run(config.run)
    if config.data == "-":  # it cannot be read twice
        return _evaluated(run, config, progress)
    return run.steadily(lambda: _evaluated(run, config, progress))


def _evaluated(run: Run, config: EvaluateConfig, progress: Progress) -> Report:
    history = run.steadily(lambda: _history(run, config.round))
    given = _given(config, history, progress)
    test = _measured(config, history, given, progress)
    report = _report(config, test)
    if config.against is not None:
        report = replace(report, against=_against(config, test, progress))
    if config.by is not None:
        learned = frozenset() if config.include_learned else _learned(config, history[-1])
        answers = beside(config, test.extractor, test.heads[-1].head, learned, progress)
        report = replace(report, beside=answers)
    limits = Limits(config.fail_under, config.max_regression, config.min_class_accuracy)
    parent = history[0].manifest.parent
    return evaluation.with_gates(
        report,
        test.heads,
        test.features.labels,
        limits,
        from_the_start=parent is None or parent in run.numbers(),
        unmeasured=set(given.listing.classes) - set(test.features.labels),
    )


def _history(run: Run, number: int | None) -> list[Round]:
    """The rounds that know classes on the way to the one that is measured, the oldest first.

    Rounds that were rolled back are not on the way.
    """
    way = run.way(number)
    require_classes(way[-1])
    return [entry for entry in way if entry.classes]


@dataclass(frozen=True, eq=False)
class _Given:
    """The images of DATA, and which of them are measured."""

    listing: Listing
    """Those of classes that the round knows."""
    wanted: tuple[LabelledImage, ...]
    learned: Learned


@dataclass(frozen=True, eq=False)
class _Test:
    """The images that the rounds of a run are measured on."""

    history: Sequence[Round]
    given: _Given
    features: Features[LabelledImage]
    """Under the backbone of the last round."""
    heads: Sequence[RoundHead]
    extractor: Extractor
    """Of the last round."""


def _measured(
    config: EvaluateConfig, history: Sequence[Round], given: _Given, progress: Progress
) -> _Test:
    """Show the images to every round's backbone."""
    run = runs.open_run(config.run)
    by_backbone: dict[str, Features[LabelledImage]] = {}
    entries = []
    for entry, called in zip(history, names.by_now(history), strict=True):
        extractor = Extractor.of_round(run, entry, config.runs_on)
        fingerprint = entry.manifest.backbone_fingerprint
        if fingerprint not in by_backbone:
            by_backbone[fingerprint] = extractor.features(given.wanted, progress)
        vectors = extractor.project(by_backbone[fingerprint].examples).vectors
        head = head_of(entry, extractor)
        by_name = UnitedHead(head, called) if called else head
        entries.append(RoundHead(entry.number, by_name, vectors))
    warn_of_tones(max((found.tones for found in by_backbone.values()), key=lambda it: it.few))
    current, listing = by_backbone[fingerprint], given.listing
    images.reject_bad(
        listing.total,
        (*listing.skipped, *current.skipped),
        config.images.max_bad,
        listing.lost,
    )
    if not current.images:
        raise DataError(
            f"Expected images. Received: none that can be read in {config.data}. Repair them, or "
            "give others."
        )
    return _Test(history, given, current, entries, extractor)


def _report(config: EvaluateConfig, test: _Test) -> Report:
    skipped = (*test.given.listing.skipped, *test.features.skipped)
    registry = test.history[-1].manifest.classes
    labels = test.features.labels
    report = evaluation.evaluate(str(config.run), registry, test.heads, labels, skipped)
    report = evaluation.in_detail(report, registry, test.heads, labels, config.all_rounds)
    paths = tuple(str(image.path) for image in test.features.images)
    return replace(report, learned=test.given.learned, paths=paths, card=_card(config, test))


def _given(config: EvaluateConfig, history: Sequence[Round], progress: Progress) -> _Given:
    """The images of DATA, without those that a run has learned unless these are wanted too.

    The same images are measured for every round: a learned one is left out for all.

    Raises:
        DataError: none is left.
    """
    learned = _learned(config, history[-1])
    listing = _known_images(config, history, progress)
    fresh = tuple(image for image in listing.images if image.sha256 not in learned)
    count = len(listing.images) - len(fresh)
    if config.include_learned:
        return _Given(listing, listing.images, Learned(included=count))
    if not fresh:
        learners = config.run if config.against is None else f"{config.run} or {config.against}"
        raise DataError(
            f"Expected images to test on that were not learned. Received: {config.data}, whose "
            f"{count} images were all learned by {learners}. Give others, or add "
            "--include-learned."
        )
    if count:
        log.warning("%d of %d images were learned before and left out", count, len(listing.images))
    _warn_of_removed(history, fresh)
    _warn_of_groups(config, history[-1], fresh)
    return _Given(listing, fresh, Learned(left_out=count))


def _learned(config: EvaluateConfig, measured: Round) -> frozenset[str]:
    """Content hashes of what the run has learned by now, or had by the round that is measured.

    Of what the other run has, too.
    """
    return frozenset().union(*map(memory.ledger_of, _learners(config, measured)))


def _learners(config: EvaluateConfig, measured: Round) -> list[Round]:
    current = runs.open_run(config.run).round()
    entries = [measured] if measured.number == current.number else [measured, current]
    return entries if config.against is None else [*entries, _other(config.against)]


def _warn_of_groups(
    config: EvaluateConfig, measured: Round, fresh: Sequence[LabelledImage]
) -> None:
    """Say how many images belong to a scene, a patient or the like of which others are learned."""
    if not any(image.group for image in fresh):
        return
    learned: set[str] = set()
    for entry in _learners(config, measured):
        learned.update(memory.groups_of(entry).values())
    if count := sum(image.group_key in learned for image in fresh):
        log.warning(
            "%d of %d images are of groups of which others were learned: the figures look better "
            "than they are",
            count,
            len(fresh),
        )


def _warn_of_removed(history: Sequence[Round], fresh: Sequence[LabelledImage]) -> None:
    """Say which earlier rounds had learned images that were removed from the run since."""
    hashes = {image.sha256 for image in fresh}
    for entry in history[:-1]:
        if count := len(hashes & memory.ledger_of(entry).keys()):
            log.warning(
                "round %d had learned %d of the %d images, which were removed since: its figures "
                "look better than they are",
                entry.number,
                count,
                len(hashes),
            )


def _known_images(config: EvaluateConfig, history: Sequence[Round], progress: Progress) -> Listing:
    """The images of DATA whose class the last round knows."""
    current = history[-1]
    listing = listed(config.data, config.images.columns, progress)
    renamed = names.former(history)
    if not config.ignore_unknown:
        known = {*current.classes, *_indexed_classes(config)}
        advice = "Remove them from DATA, or add --ignore-unknown."
        require_known_classes(listing, known, advice, renamed)
    if told := names.said_of(listing.classes, renamed):
        log.warning("%sThe head is not tested on images under old names", told)
    wanted = tuple(image for image in listing.images if image.label in current.classes)
    if not wanted:
        raise DataError(
            f"Expected images of classes that {config.run} knows. Received: none in {config.data}. "
            "Add some."
        )
    return replace(listing, images=wanted)


def _indexed_classes(config: EvaluateConfig) -> Collection[str]:
    """Classes that the index answers with, where it is asked too."""
    if config.by is None:
        return ()
    with retrieval.open_index(config.run) as index:
        return index.records.labels().keys()


def _other(path: Path) -> Round:
    """The current round of the run to compare with, which knows classes."""
    require_classes(entry := runs.open_run(path).round())
    return entry


def _against(config: EvaluateConfig, test: _Test, progress: Progress) -> Comparison:
    """The other run on the same images, as far as it knows their classes."""
    assert config.against is not None
    entry = _other(config.against)
    shared = [name for name in test.history[-1].classes if name in entry.classes]
    wanted = [image for image in test.features.images if image.label in shared]
    extractor = Extractor.of_round(runs.open_run(config.against), entry, config.runs_on)
    found = extractor.features(wanted, progress)
    if not found.images:
        raise DataError(
            f"Expected images of classes that both runs know. Received: none in {config.data} "
            f"that {config.against} knows. Choose another run for --against."
        )
    known = head_of(entry, extractor)
    theirs = known.predict(extractor.project(found.examples).vectors) == np.array(
        found.labels, object
    )
    rows = {sha256: row for row, sha256 in enumerate(test.features.hashes)}
    chosen = [rows[sha256] for sha256 in found.hashes]
    said = test.heads[-1].head.predict(test.heads[-1].vectors)
    ours = (said == np.array(test.features.labels, object))[chosen]
    return evaluation.compare(str(config.against), entry.number, len(shared), ours, theirs)


def _card(config: EvaluateConfig, test: _Test) -> dict[str, Any]:
    """What was measured on what."""
    entry, stored = test.history[-1], test.extractor.stored
    manifest = entry.manifest
    kept = ("command", "created", "backbone", "backbone_fingerprint", "head", "strategy")
    return {
        **{name: getattr(manifest, name) for name in kept},
        "weights": stored.weights,
        "image_size": stored.image_size,
        "fit": test.extractor.square.fit,
        "white_level": test.extractor.square.white_level,
        "precision": stored.precision,
        **asdict(test.extractor.kind),
        "temperature": test.heads[-1].head.temperature,
        "memory": manifest.memory,
        "memory_sha256": manifest.memory_sha256,
        "exact": manifest.exact,
        "classes": len(entry.classes),
        "learned_images": len(memory.ledger_of(entry)),
        "versions": manifest.versions,
        "config": manifest.config,
        "data": config.data,
        "data_sha256": images.digest_of(test.features.hashes, test.features.labels),
        "learned_in_data": asdict(test.given.learned),
    }
