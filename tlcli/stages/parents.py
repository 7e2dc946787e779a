"""The round that a command starts from, and what can be known of the images it has learned."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tlcli import extension, heads, images, memory
from tlcli.config import MemoryOptions, Progress
from tlcli.errors import DataError, UsageError
from tlcli.features import Examples
from tlcli.heads import Known, LinearHead, Recipe
from tlcli.heads.known import Again
from tlcli.images import LabelledImage
from tlcli.memory import Memory
from tlcli.moments import Moments
from tlcli.runs import Round, Run
from tlcli.stages.lenses import Lens


@dataclass(frozen=True, eq=False)
class Parent:
    """The round that is extended."""

    round: Round
    head: LinearHead
    recipe: Recipe
    memory: Memory
    lens: Lens

    @staticmethod
    def of(run: Run, engine: str) -> "Parent":
        """The current round of a run.

        Raises:
            RunError: a file is damaged.
        """
        current = run.round()
        manifest = current.manifest
        return Parent(
            current,
            heads.load(current.file("head.h5")),
            Recipe(manifest.head, **manifest.head_options),
            memory.load(current),
            Lens.of_round(run, current, engine),
        )

    @property
    def solved(self) -> bool:
        """Whether the head was solved from all images, and not by a strategy of gradients."""
        return self.round.manifest.strategy in (None, "merge", "joint")

    @property
    def again(self) -> Again | None:
        """Solves the head again without some images; None where the round's path matters."""
        if not self.round.manifest.exact:
            return None
        fit, nothing = extension.first(self.recipe), self.lens.view(self.lens.nothing())
        return lambda total, old: fit(Known(total, nothing, old))

    def suggests(self, head: LinearHead, total: Moments | None) -> tuple[float, int] | None:
        """The temperature for the next head, and how many images are behind it.

        Without moments to compare the two heads by it is that of this head; None where they
        cannot be compared.
        """
        if total is None or self.memory.moments is None:
            return self.head.temperature, len(self.memory.ledger)
        before = heads.separation(self.head, self.memory.moments)
        if before <= 0:
            return None
        ratio = heads.separation(head, total) / before
        return (self.head.temperature * ratio, len(self.memory.ledger)) if ratio > 0 else None


@dataclass(frozen=True, eq=False)
class Recalled:
    """What is known of learned images."""

    examples: Examples
    """Their backbone features, without the projection."""
    missing: tuple[str, ...]
    """Content hashes of learned images of which nothing is known."""
    files: dict[str, LabelledImage]
    """Content hash → file, of those that the user gave."""
    kept: int
    """How many of the features come from the run itself."""

    @property
    def extent(self) -> str:
        """`none`, `some` or `all` of the old images."""
        if not self.missing:
            return "all"
        return "some" if len(self.examples) else "none"


def recall(
    parent: Parent,
    given: Sequence[LabelledImage],
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
        LabelledImage(image.path, ledger[key], key)
        for key, image in files.items()
        if key in unknown
    ]
    if needed:
        found = found.joined(parent.lens.features(needed, progress).examples)
    unknown = asked - set(found.hashes)
    if unknown and from_cache:
        found = found.joined(parent.lens.cached({key: ledger[key] for key in sorted(unknown)}))
    return Recalled(found, tuple(sorted(asked - set(found.hashes))), files, kept)


def _kept(parent: Parent, asked: Collection[str]) -> Examples:
    kept = parent.memory.kept
    if kept is None:
        return parent.lens.nothing()
    return kept.where(np.array([key in asked for key in kept.hashes], bool))


def require_memory(asked: MemoryOptions) -> None:
    """Refuse, before any image is read, a memory that does not exist.

    Raises:
        UsageError: there is no such setting, or it has no exemplars.
    """
    if asked.memory is not None:
        memory.require_known(asked.memory)
    if asked.exemplars_per_class is not None and asked.memory in ("none", "moments"):
        raise UsageError(
            f"Expected --memory exemplars or features with --exemplars-per-class. "
            f"Received: memory={asked.memory!r}. Leave one of them out."
        )


def nothing(lens: Lens, asked: MemoryOptions) -> Memory:
    """The memory of a run that has learned no image yet."""
    per_class = asked.exemplars_per_class
    setting = asked.memory or ("moments" if per_class is None else "exemplars")
    if setting == "exemplars" and per_class is None:
        per_class = extension.DEFAULT_EXEMPLARS
    start = None if setting == "none" else lens.empty_moments()
    return memory.empty(setting, per_class, start, lens.stored.width)


def turns(asked: MemoryOptions, current: Memory) -> bool:
    """Whether the memory is asked to become another one."""
    return turned(asked, current) != (current.setting, current.exemplars_per_class)


def turned(asked: MemoryOptions, current: Memory) -> tuple[str, int | None]:
    """Setting and exemplars per class of the next round."""
    setting = asked.memory
    if setting is None:
        kept = asked.exemplars_per_class is None or current.setting == "features"
        setting = current.setting if kept else "exemplars"
    if setting != "exemplars":
        return setting, None
    return setting, exemplars_per_class(asked, current)


def exemplars_per_class(asked: MemoryOptions, current: Memory) -> int:
    """How many images of a class are rehearsed, and kept where the memory keeps them."""
    chosen = asked.exemplars_per_class or current.exemplars_per_class
    return chosen or extension.DEFAULT_EXEMPLARS


def moments_before(parent: Parent, recalled: Recalled) -> Moments | None:
    """The moments of all learned images.

    From their features where the run keeps none, or estimates, and the features are at hand.
    """
    memory = parent.memory
    if rebuilds(parent, recalled):
        return parent.lens.moments(recalled.examples)
    return memory.moments


def rebuilds(parent: Parent, recalled: Recalled) -> bool:
    """Whether the moments are made anew from the features of all learned images."""
    memory = parent.memory
    usable = memory.moments is not None and memory.exact
    return not usable and recalled.extent == "all" and bool(memory.ledger)


def settled(parent: Parent, recalled: Recalled, before: Moments | None) -> tuple[Memory, Recalled]:
    """The memory with moments that were made anew, and the features that belong to its moments."""
    old = parent.memory
    if not rebuilds(parent, recalled):
        return old, with_same_bits(parent, recalled)
    engines = old.engines if recalled.kept else frozenset()
    if recalled.kept < len(recalled.examples):
        engines |= {parent.lens.engine}
    moments = None if old.moments is None else before
    return replace(old, moments=moments, exact=True, engines=engines), recalled


def require_projection(recipe: Recipe, lens: Lens) -> None:
    """Refuse a head that needs a projection in a run that has none."""
    if heads.HEADS[recipe.head].projected and lens.projection is None:
        raise UsageError(
            f"Expected a run with a projection for the head {recipe.head}. Received: one without. "
            "The projection is chosen at `tlcli pretrain --projection`; use --head ridge."
        )


def with_same_bits(parent: Parent, recalled: Recalled) -> Recalled:
    """Only those features that have the very bits that went into the moments.

    Those that the run keeps have them; those that are computed or cached have them where all came
    from the engine that is used now.
    """
    if parent.memory.engines <= {parent.lens.engine}:
        return recalled
    kept = recalled.examples.take(range(recalled.kept))
    rest = recalled.examples.hashes[recalled.kept :]
    missing = tuple(sorted((*recalled.missing, *rest)))
    return replace(recalled, examples=kept, missing=missing)


def pixels_of(
    lens: Lens, sources: Mapping[str, LabelledImage], old: Memory | None
) -> memory.Pixels:
    """A function that decodes images, named by their hashes, at the size of the backbone's input.

    Args:
        lens: knows the size.
        sources: content hash → file.
        old: holds the pixels of its exemplars.
    """
    return pixels_from(sources, lens.stored.image_size, old)


def pixels_from(
    sources: Mapping[str, LabelledImage], size: int, old: Memory | None = None
) -> memory.Pixels:
    """The same at any size."""

    def pixels(hashes: Sequence[str]) -> NDArray[np.uint8]:
        files = [sources[key] for key in hashes if key in sources]
        pictures = dict(zip(files, images.decode_many(files, size), strict=True))
        others = [key for key in hashes if key not in sources]
        gone = others if old is None else old.sources.without_pixels(others)
        kept = [key for key in others if key not in set(gone)]
        rows = dict(zip(kept, old.pixels_of(kept), strict=True)) if old and kept else {}
        result = np.empty((len(hashes), size, size, 3), np.uint8)
        for row, key in enumerate(hashes):
            picture = pictures[sources[key]] if key in sources else rows.get(key)
            if not isinstance(picture, np.ndarray):
                where = sources[key].path if key in sources else f"with content hash {key[:12]}…"
                raise DataError(
                    f"Expected the image {where} as it was when the command began. Received: "
                    f"{picture or 'it was not given'}. Put it back, or give it with --old-data."
                )
            result[row] = picture
        return result

    return pixels
