"""Which strategies are tried with which heads: what makes sense, and what the images allow."""

from collections.abc import Sequence
from dataclasses import dataclass

from tlcli import heads
from tlcli.config import CompareConfig
from tlcli.errors import UsageError, require_choice
from tlcli.heads import HEADS
from tlcli.strategies import STRATEGIES, OldImages

DEFAULT_HEADS = ("lda", "ridge", "ncm", "softmax", "svm")

GRADIENT_HEAD = "softmax"
"""What the strategies that keep on fitting columns start from in round 1."""


@dataclass(frozen=True, order=True)
class Method:
    """One way to learn classes in rounds."""

    strategy: str
    head: str

    @property
    def exact(self) -> bool:
        """Whether every round equals joint training on all images so far."""
        return STRATEGIES[self.strategy].exact

    @property
    def old_images(self) -> OldImages:
        """Those that it needs."""
        return STRATEGIES[self.strategy].old_images

    @property
    def projected(self) -> bool:
        """Whether it sees features through a random projection."""
        return HEADS[self.head].projected

    @property
    def reference(self) -> "Method":
        """Joint training of the same head: itself, or what it equals, where it is exact."""
        return self if self.exact else Method("joint", self.head)


@dataclass(frozen=True)
class LeftOut:
    """A method that was not tried."""

    strategy: str
    head: str
    reason: str


def asked_for(config: CompareConfig) -> tuple[Method, ...]:
    """The methods that the options ask for and that make sense, with their references.

    Raises:
        UsageError: a name is unknown, or none of them makes sense.
    """
    strategies = _known_strategies(config.strategies or tuple(STRATEGIES))
    names = tuple(dict.fromkeys(config.heads or DEFAULT_HEADS))
    for name in names:
        heads.require_known(name)
    chosen = [
        Method(strategy, head)
        for strategy in strategies
        for head in names
        if _makes_sense(strategy, head)
    ]
    if not chosen:
        raise UsageError(
            "Expected strategies and heads that go together: merge is for heads that are solved "
            "from moments, joint for the others (for these it is the same as merge), every other "
            f"strategy for {GRADIENT_HEAD}. Received: strategies={','.join(strategies)}, "
            f"heads={','.join(names)}. Name others."
        )
    return tuple(dict.fromkeys((*chosen, *(method.reference for method in chosen))))


def possible(
    methods: Sequence[Method], fewest: int, name: str
) -> tuple[tuple[Method, ...], tuple[LeftOut, ...]]:
    """The methods that the images allow, and the others.

    Args:
        methods: what is to be compared.
        fewest: the smallest number of training images that a class has in any fold.
        name: that class.

    Raises:
        UsageError: the images allow none.
    """
    left_out = tuple(
        LeftOut(
            method.strategy,
            method.head,
            f"{method.head} needs {HEADS[method.head].least_images} training images of every "
            f"class, and {name!r} has {fewest} in a fold",
        )
        for method in methods
        if HEADS[method.head].least_images > fewest
    )
    kept = tuple(method for method in methods if HEADS[method.head].least_images <= fewest)
    if not kept:
        raise UsageError(
            f"Expected a head that the images allow: {left_out[0].reason}. Received: heads="
            f"{','.join(dict.fromkeys(entry.head for entry in left_out))}. Name others, or add "
            "images."
        )
    return kept, left_out


def _known_strategies(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        require_choice("a strategy", name, STRATEGIES)
    return tuple(dict.fromkeys(names))


def _makes_sense(strategy: str, head: str) -> bool:
    """Whether the two go together, and are not the same as another pair."""
    row, from_moments = STRATEGIES[strategy], HEADS[head].solve is not None
    if not row.exact:
        return head == GRADIENT_HEAD
    # For heads from moments joint equals merge.
    return row.from_moments == from_moments
