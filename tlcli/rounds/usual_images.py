"""What images of the usual kind look like, for a head whose images are gone."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tlcli import backbones
from tlcli.config import Progress
from tlcli.errors import DataError, UsageError
from tlcli.extractor import Extractor
from tlcli.features import Examples
from tlcli.heads import Evidence, Fit, Generic, LinearHead, generic
from tlcli.images import folds
from tlcli.images.unlabelled import unlabelled

log = logging.getLogger(__name__)

_FOLDS = 5


@dataclass(frozen=True)
class Usual:
    """What a round that leaves old columns alone says of old images."""

    origin: str
    """What is known of them, in words."""
    sample: int = 0
    """How many images of the usual kind were given."""
    claimed: float | None = None
    """The share of them (0 to 1) that new columns take, fitted without them; None without any."""

    def to_json(self) -> dict[str, Any]:
        """As a part of what a round answers."""
        return asdict(self)


def sample_of(extractor: Extractor, folder: str, progress: Progress) -> Examples:
    """Features of unlabelled images, as heads see them.

    Raises:
        UsageError, DataError: there is no such folder, or fewer than two images are in it.
    """
    listing = unlabelled(folder, progress)
    found = extractor.features(listing.images, progress)
    left_out = (*listing.skipped, *found.skipped)
    if not len(found.examples):
        raise DataError(
            f"Expected images that can be read. Received: none in {folder}, the first is "
            f"{left_out[0].path} ({left_out[0].reason}). Give other images with --sample."
        )
    if left_out:
        log.warning(
            "%d images of --sample were left out, the first is %s (%s)",
            len(left_out),
            left_out[0].path,
            left_out[0].reason,
        )
    return extractor.project(found.examples)


@dataclass(frozen=True, eq=False)
class _Known:
    """What there is to go by."""

    head: LinearHead
    extractor: Extractor
    sample: Examples | None
    new: Examples


def _kept(known: _Known) -> Generic | None:
    kept = known.head.generic
    return kept if kept is not None and not kept.expected else None


def _of_sample(known: _Known) -> Generic | None:
    if known.sample is None:
        return None
    return generic.of_features(known.head, known.sample.vectors)


def expected_of(extractor: Extractor) -> Generic | None:
    """What a backbone expects of its images; None where it does not tell."""
    if extractor.projection is not None:
        return None
    mean = backbones.expected_features(backbones.load_model(extractor.stored))
    return None if mean is None else generic.expected(mean)


def _of_backbone(known: _Known) -> Generic | None:
    return known.head.generic or expected_of(known.extractor)


def _of_new(known: _Known) -> Generic | None:
    if len(set(known.new.labels)) < 2:
        return None
    return generic.of_features(known.head, known.new.vectors)


_ORIGINS: dict[str, Callable[[_Known], Generic | None]] = {
    "the mean of the images learned before": _kept,
    "the mean of --sample": _of_sample,
    "what the last BatchNormalization of the backbone expects": _of_backbone,
    "the mean of the new images alone, which is a guess: give --sample DIR": _of_new,
}
"""Where the generic image comes from: the first that is there."""


def usual_images(
    head: LinearHead, extractor: Extractor, sample: Examples | None, new: Examples
) -> tuple[str, LinearHead]:
    """Where the generic image comes from, in words, and the head that has it.

    Args:
        head: of the parent.
        extractor: of its backbone.
        sample: features of unlabelled images of the usual kind, as the head sees them.
        new: those of the round.

    Raises:
        UsageError: nothing tells what old images look like.
    """
    known = _Known(head, extractor, sample, new)
    for origin, find in _ORIGINS.items():
        found = find(known)
        if found is not None:
            return origin, replace(head, generic=_at_lead(known, found))
    raise UsageError(
        "Expected something that tells what images of the old classes look like. Received: one new "
        "class, and a run that knows nothing of them. Give some unlabelled images of the usual "
        "kind with --sample DIR."
    )


def _at_lead(known: _Known, found: Generic) -> Generic:
    """A lead that is measured on images that the head has not learned is the better one."""
    if known.sample is None or found.expected:
        return found
    return replace(found, lead=generic.lead(known.head, known.sample.vectors))


def claimed(fit: Fit, evidence: Evidence) -> float | None:
    """The share of the sample that new columns take when they are solved without it.

    The sample is left out a fifth at a time.
    """
    sample, parent = evidence.sample, evidence.parent
    if sample is None or parent is None:
        return None
    assigned = folds(sample.hashes, ("",) * len(sample), _FOLDS)
    taken = 0
    for fold in sorted(set(assigned.tolist())):
        out = assigned == fold
        head = fit(replace(evidence, sample=sample.where(~out)))
        answers = head.predict(sample.where(out).vectors)
        taken += int((~np.isin(answers, np.array(parent.classes, object))).sum())
    return taken / len(sample)
