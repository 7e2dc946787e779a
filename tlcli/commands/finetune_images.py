"""The images that `finetune` learns from: given, given again, or kept by the run."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import (
    images,
    memory,
)
from tlcli.config import FinetuneConfig, Progress
from tlcli.errors import DataError
from tlcli.extractor import Extractor
from tlcli.features import Examples, among
from tlcli.images import LabelledImage, Listing
from tlcli.memory.pixels import pixels_of
from tlcli.rounds.intake import (
    Intake,
    named,
    readable,
    require_known_classes,
    scan,
    unlearned,
)
from tlcli.rounds.parent import Parent
from tlcli.rounds.result import Phases, options_of
from tlcli.rounds.training import same_images
from tlcli.training import Keeping


@dataclass(frozen=True, eq=False)
class AtHand:
    """The images whose pixels can be had, on the old backbone."""

    examples: Examples
    """Raw features of the old backbone."""
    new: NDArray[np.bool_]
    """(n,) which of them the run has not learned."""
    load: memory.Pixels
    kept: frozenset[str]
    """Content hashes of exemplars whose pixels come from the run."""
    intake: Intake

    @property
    def nothing_new(self) -> Intake:
        """The intake of a command that had nothing to do."""
        return replace(self.intake, used=0, from_cache=0, already_learned=len(self.examples))

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """(n,) which of them the training is validated on."""
        return images.holdout(
            self.examples.hashes, self.examples.labels, images.HELD_OUT, self.examples.groups
        )


def take_in(config: FinetuneConfig, parent: Parent, phases: Phases) -> AtHand:
    """DATA, learned images among --old-data, and the exemplars of the run."""
    listing = scan(config.data, config.images.columns, phases.progress)
    advice = "Add them first with `tlcli extend-classes`."
    require_known_classes(listing, parent.round.classes, advice, parent.former)
    with phases.phase("features"):
        return _at_hand(config, parent, listing, phases.progress)


def keeping_of(config: FinetuneConfig, extractor: Extractor) -> Keeping:
    """What may be kept of the frozen layers."""
    return Keeping(config.cached_views, int(config.cached_gb * 1e9), extractor.engine)


def same_again(config: FinetuneConfig, parent: Parent, at_hand: AtHand) -> bool:
    """Whether the current round is this very command's, on these very images."""
    recorded = {"objective": FinetuneConfig.objective} | parent.round.manifest.config
    options = options_of(config) | {"data": recorded.get("data")}
    return recorded == options and same_images(
        parent.round, images.digest_of(at_hand.examples.hashes, at_hand.examples.labels)
    )


def _at_hand(
    config: FinetuneConfig, parent: Parent, listing: Listing, progress: Progress
) -> AtHand:
    ledger, extractor = parent.memory.ledger, parent.extractor
    _, refused = unlearned(listing, ledger)
    relabelled = {entry.path for entry in refused}
    usable = [image for image in listing.images if str(image.path) not in relabelled]
    wanted = {image.sha256: image for image in usable}
    wanted = {image.sha256: image for image in _old_images(config, ledger, progress)} | wanted
    found = extractor.features(tuple(wanted.values()), progress)
    skipped = readable(listing, found, refused, config.images.max_bad)
    examples = found.examples
    if parent.memory.keeps.exemplars and (kept := parent.memory.kept) is not None:
        examples = examples.joined(kept.without(set(examples.hashes)))
    # In an order of their own: a training does not depend on the folders that images came from.
    examples = parent.memory.grouped(examples.by_hash())
    _require_exact(config, parent, examples)
    sources = {image.sha256: image for image in found.images}
    return AtHand(
        examples,
        ~among(examples.hashes, ledger),
        pixels_of(sources, extractor.square, parent.memory),
        frozenset(examples.hashes) - sources.keys(),
        replace(Intake.of(listing, found, skipped), used=len(examples)),
    )


def _old_images(config: FinetuneConfig, ledger: Any, progress: Progress) -> list[LabelledImage]:
    if config.old_data is None:
        return []
    listing = scan(config.old_data, config.images.columns, progress)
    known = [image for image in listing.images if image.sha256 in ledger]
    return [replace(image, label=ledger[image.sha256]) for image in known]


def _require_exact(config: FinetuneConfig, parent: Parent, examples: Examples) -> None:
    gone = parent.memory.ledger.keys() - set(examples.hashes)
    wanted = {"--require-exact": config.require_exact, "--into-backbone": config.into_backbone}
    if gone and any(wanted.values()):
        classes = {parent.memory.ledger[key] for key in gone}
        raise DataError(
            f"Expected all {len(parent.memory.ledger)} learned images with "
            f"{' and '.join(flag for flag, asked in wanted.items() if asked)}. "
            f"Received: {len(gone)} are missing, of {named(classes)}. Give them with "
            "--old-data DATA."
        )
