"""The table of strategies, and which of them a round takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tlcli.config import StrategyOptions
from tlcli.errors import UsageError, require_choice
from tlcli.heads import (
    Evidence,
    Fit,
    LinearHead,
    generic,
)
from tlcli.strategies.conditions import (
    ALL_OLD_IMAGES,
    KNOWN_CLASSES,
    MOMENTS,
    NEW_CLASSES,
    NEW_IMAGES,
    OLD_IMAGES,
    SOLVED_HEAD,
    Available,
    Condition,
    OldImages,
)
from tlcli.strategies.fits import (
    StrategyInput,
    anew,
    as_it_is,
    freeze_old,
    lwf,
    naive,
    replay,
)


@dataclass(frozen=True)
class Strategy:
    """A row of the table: one way to extend a head."""

    says: str
    """As the help of `--strategy` has it."""
    fit: Callable[[StrategyInput, Evidence], LinearHead]
    exact: bool = False
    """Whether the head is solved anew: it equals joint training on all images seen so far."""
    from_moments: bool = False
    """Whether the moments will do, so that no image is needed, neither old nor new."""
    keeps_temperature: bool = False
    """Whether the parent's temperature stays, so that old probabilities keep their ratios."""
    old_images: OldImages = OldImages.NONE
    """Those whose features it needs, where moments will not do."""
    generic: bool = False
    """Whether it goes by what old images look like on average."""
    samples: bool = False
    """Whether it learns from unlabelled images of the usual kind, too."""
    options: frozenset[str] = frozenset()
    """Those of `StrategyOptions` that are for it."""
    needs: tuple[Condition, ...] = ()
    """In the order in which they are tried."""


def following(strategy: Strategy, asked: StrategyInput) -> Fit:
    """The head of a later round; columns in the order of the registry."""

    def fit(evidence: Evidence) -> LinearHead:
        head = strategy.fit(asked, evidence)
        parent = evidence.parent
        if not strategy.exact and parent is not None and head.generic is not None:
            knows = parent if head.generic.expected else head
            head = replace(head, generic=generic.joined(head.generic, knows, evidence.new))
        return head.ordered(asked.classes)

    return fit


UNCHANGED = Strategy("the head as it is", as_it_is, keeps_temperature=True)
"""The head of the parent, for a round that changes nothing but the memory."""

ADOPTED = "adopted"
"""How round 1 records that its columns were trained elsewhere, where no strategy was used."""

STRATEGIES = {
    "merge": Strategy(
        "equals joint training, from moments alone",
        anew,
        exact=True,
        from_moments=True,
        needs=(MOMENTS, SOLVED_HEAD),
    ),
    "joint": Strategy(
        "joint training, from the features of all images",
        anew,
        exact=True,
        old_images=OldImages.ALL,
        needs=(MOMENTS, ALL_OLD_IMAGES),
    ),
    "freeze-old": Strategy(
        "old logits keep their bits",
        freeze_old,
        generic=True,
        samples=True,
        keeps_temperature=True,
        needs=(NEW_IMAGES, KNOWN_CLASSES, NEW_CLASSES),
    ),
    "lwf": Strategy(
        "distillation",
        lwf,
        samples=True,
        options=frozenset({"distillation_weight", "distillation_temperature"}),
        needs=(NEW_IMAGES, KNOWN_CLASSES),
    ),
    "replay": Strategy(
        "with kept images",
        replay,
        old_images=OldImages.SOME,
        samples=True,
        options=frozenset({"bias_correction"}),
        needs=(NEW_IMAGES, OLD_IMAGES, KNOWN_CLASSES),
    ),
    "naive": Strategy("new images alone, forgets", naive, needs=(NEW_IMAGES, KNOWN_CLASSES)),
}

EXACT = tuple(name for name, row in STRATEGIES.items() if row.exact)
"""The names of those that solve the head anew."""


def named(strategy: str | None) -> Strategy | None:
    """The row of a name; None where none was named.

    Raises:
        UsageError: the strategy is unknown.
    """
    if strategy is None:
        return None
    require_choice("a strategy", strategy, STRATEGIES)
    return STRATEGIES[strategy]


def solved_anew(recorded: str | None) -> bool:
    """Whether a round that records this strategy solved its head from all images of the run."""
    if recorded == ADOPTED:
        return False
    strategy = named(recorded)
    return strategy is None or strategy.exact


def choose(strategy: str | None, available: Available) -> str:
    """The name of the strategy to use; the best that is possible where none was asked for.

    Raises:
        UsageError: the strategy is unknown, or the run cannot offer what it needs.
    """
    named(strategy)
    if strategy is None:
        strategy = _default(available)
    for condition in STRATEGIES[strategy].needs:
        condition.require(strategy, available)
    return strategy


def require_options(strategy: str, options: StrategyOptions) -> None:
    """Raise UsageError for an option that this strategy does not have."""
    for owner, row in STRATEGIES.items():
        for name in sorted(row.options - STRATEGIES[strategy].options):
            if getattr(options, name) is not None:
                flag = name.replace("_", "-")
                raise UsageError(
                    f"Expected --{flag} with --strategy {owner} alone. Received: "
                    f"strategy={strategy!r}. Leave --{flag} out."
                )


def require_sampling(strategy: str) -> None:
    """Raise UsageError where a strategy has no use for a sample."""
    if not STRATEGIES[strategy].samples:
        able = ", ".join(name for name, row in STRATEGIES.items() if row.samples)
        raise UsageError(
            f"Expected --sample with --strategy {able}. Received: strategy={strategy!r}, which has "
            "no use for it. Leave --sample out."
        )


def _default(available: Available) -> str:
    if available.recipe.from_moments and available.moments:
        return "merge"
    return "joint" if available.old_images is OldImages.ALL else "freeze-old"
