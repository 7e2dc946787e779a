"""What becomes of a run's memory when its backbone has moved."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

from tlcli import drift, images, memory, moments
from tlcli.config import MemoryOptions, Progress
from tlcli.drift import Drift
from tlcli.errors import DataError
from tlcli.extractor import Extractor
from tlcli.features import Examples, Kind, another
from tlcli.heads import Evidence
from tlcli.memory import Memory
from tlcli.moments import Moments
from tlcli.rounds.intake import named
from tlcli.rounds.parent import Parent, empty_memory
from tlcli.rounds.solution import evidence_of

log = logging.getLogger(__name__)

LEAST_R2 = 0.8
"""Below it, what was carried over is called a guess."""


@dataclass(frozen=True, eq=False)
class Compensated:
    """The images of a run on its new backbone."""

    examples: Examples
    """Raw features of the images at hand."""
    carried: Examples
    """Estimated raw features of learned images that are not at hand, but whose features were
    kept."""
    total: Moments | None
    """Of all images: those at hand, and estimates for the others. None where there are classes of
    which the run remembers nothing."""
    drift: Drift | None
    """How the others were estimated; None where there are none."""
    foreign: frozenset[Kind] = frozenset()
    """Of images at hand whose pixels another decoder gave."""

    def evidence(self, extractor: Extractor) -> Evidence:
        """What the head is solved from."""
        return evidence_of(extractor, self.total, self.examples)

    def memory(self, old: Memory, extractor: Extractor, pixels: memory.Pixels) -> Memory:
        """The memory of the run on the new backbone."""
        start = empty_memory(extractor, MemoryOptions(old.setting, old.exemplars_per_class))
        everything = self.examples.joined(self.carried)
        total = None if start.moments is None else self.total
        learned = start.learned(everything, total, extractor.kind, pixels)
        ledger = {**old.ledger, **learned.ledger}
        gone = old.ledger.keys() - set(self.examples.hashes)
        groups, kinds = {**old.groups, **learned.groups}, learned.kinds | self.foreign
        return replace(learned, ledger=ledger, groups=groups, exact=not gone, kinds=kinds)


def compensate(
    parent: Parent,
    extractor: Extractor,
    at_hand: Examples,
    of_run: Collection[str],
    pixels: memory.Pixels,
    progress: Progress,
) -> Compensated:
    """The images of a run under its new backbone.

    Args:
        parent: the round on the old backbone.
        extractor: the new backbone.
        at_hand: raw old features of the images whose pixels can be had.
        of_run: content hashes of those whose pixels the run gives, as they were decoded once.
        pixels: gives them.
        progress: told the phase of computing features.
    """
    foreign = _foreign(parent, extractor, of_run)
    new = extractor.features_of(at_hand, pixels, of_run if foreign else (), progress)
    total = extractor.moments(new)
    missing = parent.memory.ledger.keys() - set(at_hand.hashes)
    nothing = extractor.no_examples()
    if not missing:
        return Compensated(new, nothing, None if parent.unseen else total, None, foreign)
    if parent.memory.moments is None:
        log.warning(
            "of %d learned images %d are not given", len(parent.memory.ledger), len(missing)
        )
        complete = set(parent.round.classes) <= set(at_hand.labels)
        return Compensated(new, nothing, total if complete else None, None, foreign)
    found = _drift(parent.extractor, extractor, at_hand, new)
    kept = parent.memory.kept
    if kept is None or not parent.memory.keeps.every_feature:
        rest = found.moments(_rest(parent, at_hand), extractor.fingerprint, extractor.bits)
        return _warned(
            Compensated(new, nothing, moments.add(total, rest), found, foreign),
            parent,
            len(missing),
        )
    raw = found
    if extractor.projection is not None:
        raw = _drift(
            replace(parent.extractor, projection=None),
            replace(extractor, projection=None),
            at_hand,
            new,
        )
    carried = raw.vectors(kept.only(missing))
    total = moments.add(total, extractor.moments(carried))
    return _warned(Compensated(new, carried, total, raw, foreign), parent, len(missing))


def _foreign(parent: Parent, extractor: Extractor, of_run: Collection[str]) -> frozenset[Kind]:
    """The kinds that features may be of whose pixels the run kept from other decoders."""
    here = extractor.kind
    decoders = {kind.decoder for kind in parent.memory.kinds} - {here.decoder}
    return frozenset(Kind(here.arithmetic, name) for name in decoders) if of_run else frozenset()


def _drift(before: Extractor, after: Extractor, old: Examples, new: Examples) -> Drift:
    """The map between the spaces in which the moments live."""
    held_out = images.holdout(old.hashes, old.labels, images.HELD_OUT, old.groups)
    return drift.fit(before.project(old).vectors[:], after.project(new).vectors[:], held_out)


def require_movable(parent: Parent, at_hand: Examples) -> None:
    """Refuse, before a long training, images at hand whose old moments cannot be told.

    Raises:
        DataError: some learned images are missing, and their features are of another kind.
    """
    learned = parent.memory
    missing = learned.ledger.keys() - set(at_hand.hashes)
    if missing and learned.moments is not None and learned.kinds - {parent.extractor.kind}:
        raise DataError(
            f"Expected all learned images, as their features came from "
            f"{another(learned.kinds, parent.extractor.kind)}. Received: {len(missing)} are "
            "missing. Give them with --old-data DATA."
        )


def _rest(parent: Parent, at_hand: Examples) -> Moments:
    """The old moments of the learned images that are not at hand."""
    learned = parent.memory
    assert learned.moments is not None
    known = at_hand.only(learned.ledger)
    return moments.subtract(learned.moments, parent.extractor.moments(known), learned.exact)


def _warned(moved: Compensated, parent: Parent, missing: int) -> Compensated:
    found = moved.drift
    assert found is not None
    classes = set(parent.round.classes) - set(moved.examples.labels)
    log.warning(
        "of %d learned images %d are not given%s: what the run remembers of them is carried over "
        "to the new backbone by an estimate (%s)",
        len(parent.memory.ledger),
        missing,
        f", among them all of {named(classes)}" if classes else "",
        _quality(found.r2),
    )
    return moved


def _quality(r2: float | None) -> str:
    if r2 is None:
        return "a guess: too few images were seen by both backbones to measure it"
    text = f"R² {r2:.3f} on images that both have seen"
    return text if r2 >= LEAST_R2 else f"{text}, little better than a guess: give the images"
