"""What a run can offer to a strategy, and what is said where it does not."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tlcli import heads
from tlcli.errors import UsageError
from tlcli.heads import (
    Recipe,
)


class OldImages(StrEnum):
    """How many of the images that were learned before, in ascending order."""

    NONE = "none"
    SOME = "some"
    """As exemplars."""
    ALL = "all"


@dataclass(frozen=True)
class Available:
    """What a run can offer to a strategy."""

    recipe: Recipe
    grows: bool
    """Whether the round adds classes."""
    learns: bool
    """Whether the features of a new image are at hand."""
    moments: bool
    """Whether the run keeps moments."""
    old_images: OldImages
    """Whose features will be at hand."""
    begun: bool = True
    """Whether the run knows classes."""
    sample: bool = False
    """Whether unlabelled images of the usual kind are given."""


@dataclass(frozen=True)
class Condition:
    """What a strategy needs of a run, and what is said where it is not there."""

    met: Callable[[Available], bool]
    expected: str
    received: str
    advice: str

    def require(self, strategy: str, available: Available) -> None:
        """Raise UsageError unless the run offers it."""
        if not self.met(available):
            text = f"{self.expected} Received: {self.received}. {self.advice}"
            raise UsageError(text.format(strategy=strategy, run=available))


MOMENTS = Condition(
    lambda run: run.moments or not run.recipe.from_moments,
    "Expected a run with moments for {strategy}.",
    "a run with --memory none",
    "Use --strategy freeze-old or lwf, or give the old images with --old-data and "
    "--memory moments.",
)

SOLVED_HEAD = Condition(
    lambda run: run.recipe.from_moments,
    "Expected a head that is solved from moments for {strategy}: "
    f"{', '.join(name for name, row in heads.HEADS.items() if row.solve is not None)}.",
    "head={run.recipe.head!r}",
    "Add --head lda, or use --strategy freeze-old, or joint with the old images.",
)

ALL_OLD_IMAGES = Condition(
    lambda run: run.recipe.from_moments or run.old_images is OldImages.ALL,
    "Expected the features of all old images for {strategy}.",
    "a run that keeps {run.old_images} of them",
    "Give the old images with --old-data, keep them with --memory features, or use "
    "--strategy merge with --head lda.",
)

NEW_IMAGES = Condition(
    lambda run: run.learns,
    "Expected new images for {strategy}.",
    "none",
    "Use --strategy merge, or joint with the old images.",
)

OLD_IMAGES = Condition(
    lambda run: run.old_images is not OldImages.NONE or run.sample,
    "Expected old images for {strategy}.",
    "a run that keeps none",
    "Use a run with --memory exemplars or features, give them with --old-data, or unlabelled ones "
    "of the usual kind with --sample.",
)

KNOWN_CLASSES = Condition(
    lambda run: run.begun,
    "Expected a run that knows classes for {strategy}.",
    "one that knows none",
    "Use --strategy merge or joint.",
)

NEW_CLASSES = Condition(
    lambda run: run.grows,
    "Expected new classes for {strategy}.",
    "more images of known classes only, and their columns are frozen",
    "Use --strategy merge, or lwf where the run keeps no moments.",
)
