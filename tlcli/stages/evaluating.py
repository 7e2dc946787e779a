"""evaluate: the current round, and the way there, on labelled images."""

from collections.abc import Sequence
from dataclasses import replace

from tlcli import evaluation, heads, images, runs
from tlcli.config import EvaluateConfig, Progress, no_progress
from tlcli.errors import DataError
from tlcli.evaluation import Report, RoundHead
from tlcli.features import Features
from tlcli.images import Listing
from tlcli.runs import Round, Run
from tlcli.stages import rounds
from tlcli.stages.lenses import Lens


def evaluate(config: EvaluateConfig, progress: Progress = no_progress) -> Report:
    """Measure a run on labelled images; failed gates are in the report, not raised.

    Every round's head is measured on the same images, each under its own backbone.

    Raises:
        TlcliError: see errors.py.
    """
    run = runs.open_run(config.run)
    rounds.require_classes(run.round())
    history = [entry for entry in run.rounds() if entry.classes]
    listing = _known_images(config, history[-1], progress)
    by_backbone = _features(run, history, listing, config.engine, progress)
    current = by_backbone[history[-1].manifest.backbone_fingerprint]
    images.reject_bad(listing.total, (*listing.skipped, *current.skipped), config.images.max_bad)
    if not current.images:
        raise DataError(f"Expected images. Received: none that can be read in {config.data}.")
    entries = [
        RoundHead(
            entry.number,
            heads.load(entry.file("head.h5")),
            Lens.of_round(run, entry, config.engine)
            .view(by_backbone[entry.manifest.backbone_fingerprint].examples)
            .vectors,
        )
        for entry in history
    ]
    report = evaluation.evaluate(
        str(config.run),
        history[-1].manifest.classes,
        entries,
        current.labels,
        (*listing.skipped, *current.skipped),
    )
    return evaluation.with_gates(
        report, entries, current.labels, config.fail_under, config.max_regression
    )


def _known_images(config: EvaluateConfig, current: Round, progress: Progress) -> Listing:
    """The images of DATA whose class the current round knows."""
    listing = images.scan(
        config.data, progress=lambda done, total: progress("reading", done, total)
    )
    if not config.ignore_unknown:
        rounds.require_known_classes(
            listing, current.classes, "Remove them from DATA, or add --ignore-unknown."
        )
    known = tuple(image for image in listing.images if image.label in current.classes)
    if not known:
        raise DataError(
            f"Expected images of classes that {config.run} knows. Received: none in {config.data}."
        )
    return replace(listing, images=known)


def _features(
    run: Run, history: Sequence[Round], listing: Listing, engine: str, progress: Progress
) -> dict[str, Features]:
    """Fingerprint of each backbone in the history → features of the same images."""
    by_backbone: dict[str, Features] = {}
    for entry in history:
        fingerprint = entry.manifest.backbone_fingerprint
        if fingerprint not in by_backbone:
            lens = Lens.of_round(run, entry, engine)
            by_backbone[fingerprint] = lens.features(listing.images, progress)
    return by_backbone
