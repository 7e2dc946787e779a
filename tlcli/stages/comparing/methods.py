"""Which strategies are tried with which heads: what makes sense, and what the images allow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tlcli import heads
from tlcli.config import CompareConfig
from tlcli.errors import UsageError
from tlcli.extension import STRATEGIES
from tlcli.heads import HEADS

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
    def old_images(self) -> str:
        """What it needs of the old images: `none`, `some` or `all`."""
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


def choose(
    config: CompareConfig, fewest: tuple[int, str]
) -> tuple[tuple[Method, ...], tuple[LeftOut, ...]]:
    """The methods to compare, and those that the images do not allow.

    Args:
        config: `strategies` and `heads`.
        fewest: the smallest number of training images that a class has in any fold, and that
            class.

    Raises:
        UsageError: a name is unknown, or nothing can be tried.
    """
    strategies = _known_strategies(config.strategies or tuple(STRATEGIES))
    names = tuple(dict.fromkeys(config.heads or DEFAULT_HEADS))
    for name in names:
        heads.require_known(name)
    methods = _with_references(
        Method(strategy, head)
        for strategy in strategies
        for head in names
        if _makes_sense(strategy, head)
    )
    few = tuple(
        LeftOut(method.strategy, method.head, _too_few(method.head, fewest))
        for method in methods
        if HEADS[method.head].least_images > fewest[0]
    )
    left_out = {(entry.strategy, entry.head) for entry in few}
    kept = tuple(entry for entry in methods if (entry.strategy, entry.head) not in left_out)
    if not kept:
        raise _nothing(strategies, names, few)
    return kept, few


def _known_strategies(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in STRATEGIES:
            raise UsageError(
                f"Expected strategies among {', '.join(STRATEGIES)}. Received: "
                f"strategy={name!r}. Correct --strategies."
            )
    return tuple(dict.fromkeys(names))


def _makes_sense(strategy: str, head: str) -> bool:
    """Whether the two go together, and are not the same as another pair."""
    from_moments = HEADS[head].solve is not None
    if strategy == "merge":
        return from_moments
    if strategy == "joint":
        # For heads from moments it equals merge.
        return not from_moments
    return head == GRADIENT_HEAD


def _with_references(methods: Iterable[Method]) -> tuple[Method, ...]:
    """The methods, and the joint training that their forgetting is compared with."""
    asked = tuple(methods)
    return tuple(dict.fromkeys((*asked, *(method.reference for method in asked))))


def _too_few(head: str, fewest: tuple[int, str]) -> str:
    count, name = fewest
    return (
        f"{head} needs {HEADS[head].least_images} training images of every class, and "
        f"{name!r} has {count} in a fold"
    )


def _nothing(strategies: Sequence[str], names: Sequence[str], few: Sequence[LeftOut]) -> UsageError:
    reason = (
        "merge is for heads that are solved from moments, joint for the others (for these it is "
        f"the same as merge), every other strategy for {GRADIENT_HEAD}"
    )
    if few:
        reason = few[0].reason
    return UsageError(
        f"Expected strategies and heads that go together: {reason}. Received: strategies="
        f"{','.join(strategies)}, heads={','.join(names)}. Name others."
    )
