"""What can be known of images that were learned before."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tlcli.config import Progress
from tlcli.features import Differences, Examples
from tlcli.images import ImageFile, LabelledImage
from tlcli.memory import Memory
from tlcli.moments import Moments
from tlcli.rounds.intake import warn_of_tones
from tlcli.rounds.parent import Parent
from tlcli.strategies import OldImages


@dataclass(frozen=True, eq=False)
class Recalled:
    """What is known of learned images."""

    examples: Examples
    """Their backbone features, without the projection."""
    missing: tuple[str, ...]
    """Content hashes of learned images of which nothing is known."""
    files: dict[str, ImageFile]
    """Content hash → file, of those that the user gave."""
    kept: int
    """How many of the features come from the run itself."""
    unseen: frozenset[str] = frozenset()
    """Classes that the run never saw an image of."""

    @property
    def extent(self) -> OldImages:
        """How many of the learned images something is known of."""
        if not self.missing and not self.unseen:
            return OldImages.ALL
        return OldImages.SOME if len(self.examples) else OldImages.NONE


def recall(
    parent: Parent,
    given: Sequence[ImageFile],
    from_cache: bool,
    progress: Progress,
    wanted: Collection[str] | None = None,
) -> Recalled:
    """The features of learned images: kept in the run, given again, or in the cache.

    Args:
        parent: the round that learned them.
        given: images of which the learned ones are used.
        from_cache: whether to look for the others in the cache.
        progress: told the phase of computing features.
        wanted: content hashes; None means all that were learned.
    """
    ledger = parent.memory.ledger
    asked = ledger.keys() if wanted is None else set(wanted) & ledger.keys()
    found = _kept(parent, asked)
    kept = len(found)
    files = {image.sha256: image for image in given if image.sha256 in asked}
    unknown = asked - set(found.hashes)
    needed = [
        LabelledImage(image.path, key, label=ledger[key])
        for key, image in files.items()
        if key in unknown
    ]
    if needed:
        given_again = parent.extractor.features(needed, progress)
        warn_of_tones(given_again.tones)
        found = found.joined(given_again.examples)
    unknown = asked - set(found.hashes)
    if unknown and from_cache:
        found = found.joined(parent.extractor.cached({key: ledger[key] for key in sorted(unknown)}))
    told = {
        key: image.group_key for key, image in files.items() if isinstance(image, LabelledImage)
    }
    found = found.grouped({**told, **parent.memory.groups})
    unseen = parent.unseen if wanted is None else frozenset()
    return Recalled(found, tuple(sorted(asked - set(found.hashes))), files, kept, unseen)


def _kept(parent: Parent, asked: Collection[str]) -> Examples:
    kept = parent.memory.kept
    if kept is None:
        return parent.extractor.no_examples()
    return kept.only(asked)


def moments_before(parent: Parent, recalled: Recalled) -> Moments | None:
    """The moments of all learned images.

    From their features where the run keeps none, or estimates, and the features are at hand.
    """
    memory = parent.memory
    if rebuilds(parent, recalled):
        return parent.extractor.moments(recalled.examples)
    return memory.moments


def rebuilds(parent: Parent, recalled: Recalled) -> bool:
    """Whether the moments are made anew from the features of all learned images.

    They are where there are none, or where they are estimates, or of another kind than that of the
    images to come.
    """
    memory = parent.memory
    if recalled.extent is not OldImages.ALL or not memory.ledger:
        return False
    usable = memory.moments is not None and memory.exact
    return not usable or not memory.kinds <= {parent.extractor.kind}


def rebuilt(parent: Parent, recalled: Recalled, before: Moments | None) -> tuple[Memory, Recalled]:
    """The memory with moments that were made anew, and the features that belong to its moments."""
    old = parent.memory
    if not rebuilds(parent, recalled):
        return old, with_same_bits(parent, recalled)
    kinds = old.kinds if recalled.kept else frozenset()
    if recalled.kept < len(recalled.examples):
        kinds |= {parent.extractor.kind}
    moments = None if old.moments is None else before
    return replace(old, moments=moments, exact=True, kinds=kinds), recalled


def with_same_bits(parent: Parent, recalled: Recalled) -> Recalled:
    """Only those features that have the very bits that went into the moments.

    Those that the run keeps have them; those that are computed or cached have them where all came
    from the arithmetic and the decoder that are used now.
    """
    if parent.memory.kinds <= {parent.extractor.kind}:
        return recalled
    kept = recalled.examples.take(range(recalled.kept))
    rest = recalled.examples.hashes[recalled.kept :]
    missing = tuple(sorted((*recalled.missing, *rest)))
    return replace(recalled, examples=kept, missing=missing)


def same_bits_advice(parent: Parent) -> str:
    """What to do where features must have the very bits that were learned, and have not."""
    kinds, here = parent.memory.kinds, parent.extractor.kind
    if kinds <= {here}:
        return ". Give the images with --data DIR"
    if len(kinds) > 1:
        several = Differences.of(kinds).counted
        return f" with the bits that were learned, which are of several kinds: {several}"
    (learned,) = kinds
    if learned.decoder != here.decoder:
        return (
            f" as they were decoded by {learned.decoder}, and here it is {here.decoder}. "
            "Go where it was learned"
        )
    engine = learned.arithmetic.split()[0]
    same = engine == here.arithmetic.split()[0]
    where = "Go where it was learned" if same else f"Use --engine {engine}"
    return f" as {learned.arithmetic} computed them, and here it is {here.arithmetic}. {where}"
