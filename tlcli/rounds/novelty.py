"""What tells new images from those of known classes, at a stated rate of false alarms."""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tlcli import novelty
from tlcli.config import Columns, Progress
from tlcli.errors import DataError, UsageError
from tlcli.extractor import Extractor
from tlcli.features import Examples, Matrix
from tlcli.moments import Moments
from tlcli.novelty import Novelty
from tlcli.rounds.intake import require_known_classes, scan
from tlcli.rounds.parent import Parent
from tlcli.rounds.recall import recall

Float64 = NDArray[np.float64]

_LEAST = 1e-9
"""Of a spread."""

GIVEN, KEPT, CACHED = "--known", "the features that the run keeps", "cached features"


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores images, and knows above which score they are novel."""

    extractor: Extractor
    novelty: Novelty
    moments: Moments
    known: Examples
    """Backbone features of the known images that the limit was set on."""
    source: str
    """Where they came from."""
    spreads: Float64
    """(2,) of the parts of a score over known images."""
    limit: float

    def scores(self, vectors: Matrix) -> Float64:
        """(n,) of backbone features (n, D): the larger, the less an image is of a known class."""
        parts = self.novelty.parts(self.extractor.seen(vectors)[:])
        return np.asarray((parts / self.spreads).sum(axis=1))

    def novel(self, vectors: Matrix) -> NDArray[np.bool_]:
        """(n,) whether images are of no known class."""
        return np.asarray(self.scores(vectors) > self.limit, bool)


def require_rate(false_alarms: float) -> None:
    """Raise UsageError unless a rate is above 0 and below 1."""
    if not 0 < false_alarms < 1:
        raise UsageError(
            "Expected a share of false alarms above 0 and below 1. "
            f"Received: {false_alarms:g}. 0.05 is usual."
        )


def judge(
    parent: Parent, false_alarms: float, known: str | None, columns: Columns, progress: Progress
) -> Judge:
    """A judge whose limit is exceeded by at most a share of images of known classes.

    The limit is set on images that were learned, each scored as if it had not been, or on others of
    known classes.

    Args:
        parent: the round that knows the classes.
        false_alarms: the share, above 0 and below 1.
        known: DATA of known classes; None: what the run keeps or the cache has.
        columns: of its table.
        progress: told the phases of reading and of computing features.

    Raises:
        UsageError: the run keeps no moments, or not of all classes.
        DataError: too few images of known classes are at hand.
    """
    require_rate(false_alarms)
    total = parent.memory.moments
    parent.require_seen("to tell what is new")
    if total is None:
        raise UsageError(
            "Expected a run that keeps moments, to tell what is new. Received: one that does not. "
            "Learn its images again with `tlcli extend-classes RUN DATA --old-data DATA --memory "
            "moments`."
        )
    measure = Novelty.of(total)
    learned, others, source = _known(parent, known, columns, progress)
    project = parent.extractor.project
    parts = np.concatenate(
        [
            measure.parts_without(project(learned).vectors[:], learned.labels),
            measure.parts(project(others).vectors[:]),
        ]
    )
    if not novelty.has_threshold(len(parts), false_alarms):
        raise DataError(
            f"Expected {ceil(1 / false_alarms) - 1} or more images of known classes, to set a "
            f"limit that {false_alarms:.2%} exceed. Received: {len(parts)} "
            f"({source}). Give some with --known DATA."
        )
    spreads = np.maximum(parts.std(axis=0), _LEAST)
    scores = (parts / spreads).sum(axis=1)
    limit = novelty.threshold(scores, false_alarms)
    return Judge(
        parent.extractor,
        measure,
        total,
        learned.joined(others),
        source,
        spreads,
        limit,
    )


def _known(
    parent: Parent, known: str | None, columns: Columns, progress: Progress
) -> tuple[Examples, Examples, str]:
    """Features of images of known classes: learned ones, others; and where they came from."""
    nothing = parent.extractor.no_examples()
    if known is None:
        found = recall(parent, (), True, progress)
        return found.examples, nothing, KEPT if found.kept else CACHED
    listing = scan(known, columns, progress)
    require_known_classes(
        listing, parent.round.classes, "Leave them out of --known.", parent.former
    )
    ledger = parent.memory.ledger
    given = parent.extractor.features(listing.images, progress).examples
    return given.only(ledger), given.without(ledger), GIVEN
