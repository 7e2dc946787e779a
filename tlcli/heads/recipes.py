"""The table of heads, and how one is asked for."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

from tlcli import gaussian
from tlcli.config import AUTO, HeadOptions
from tlcli.errors import DataError, UsageError, require_choice
from tlcli.features import Examples
from tlcli.heads import closed_form, costs
from tlcli.heads.linear import LinearHead
from tlcli.heads.svm import svm
from tlcli.moments import Moments


@dataclass(frozen=True)
class Recipe:
    """A head's name with the options that it is solved with."""

    head: str = "lda"
    shrinkage: str = "auto"
    """`auto`, `oas`, or a number from 0 to 1."""
    priors: str = "uniform"
    """`uniform`, or `frequency`: the share of each class among all images."""
    class_weights: str = "none"
    """`none`, or `balanced`: every class weighs the same, however many images it has."""
    c: str = AUTO
    """What an error costs: `auto`, or a positive number."""

    @staticmethod
    def of(options: HeadOptions, parent: "Recipe | None" = None) -> "Recipe":
        """What was asked for; what was left open is that of the parent with the same head.

        Raises:
            UsageError: the head is unknown, or has no such option.
        """
        asked = {name: value for name, value in asdict(options).items() if value is not None}
        start = Recipe() if parent is None else parent
        if asked.get("head", start.head) != start.head:
            start = Recipe()
        recipe = replace(start, **asked)
        recipe._check(set(asked) - {"head"})
        return recipe

    @staticmethod
    def recorded(head: str, options: Mapping[str, str]) -> "Recipe":
        """What a round says that its head was solved with.

        Raises:
            UsageError: the head is unknown, or has no such option.
        """
        require_known(head)
        for name in options:
            require_choice("an option of the head", name, HEADS[head].options)
        recipe = Recipe(head, **{**HEADS[head].before, **options})
        recipe._check(set(options))
        return recipe

    def _check(self, asked: set[str]) -> None:
        require_known(self.head)
        if foreign := asked - HEADS[self.head].options:
            name = sorted(foreign)[0]
            takers = [head for head, row in HEADS.items() if name in row.options]
            flag = name.replace("_", "-")
            raise UsageError(
                f"Expected an option of the head {self.head}. Received: "
                f"{flag}={getattr(self, name)}, which is for {', '.join(takers)}. "
                f"Leave --{flag} out, or choose another --head."
            )
        require_choice("priors", self.priors, closed_form.PRIORS)
        require_choice("class-weights", self.class_weights, CLASS_WEIGHTS)
        gaussian.require_shrinkage(self.shrinkage)
        costs.require(self.c)

    @property
    def balanced(self) -> bool:
        """Whether every class weighs the same."""
        return self.class_weights == "balanced"

    @property
    def from_moments(self) -> bool:
        """Whether the head is solved from the moments alone."""
        return HEADS[self.head].solve is not None

    def solve(self, moments: Moments) -> LinearHead:
        """The head from the moments of all images; classes in sorted order."""
        from threadpoolctl import threadpool_limits

        solver = HEADS[self.head].solve
        assert solver is not None, f"{self.head} is not solved from moments"
        # Its products are small: two threads gain a fifth, and where other processes want the
        # processors too they wait for each other ten times as long as they compute.
        with threadpool_limits(limits=1):
            return solver(moments, self)

    def fit(self, examples: Examples) -> LinearHead:
        """The head from features of all images; classes in sorted order."""
        fit = HEADS[self.head].fit
        assert fit is not None, f"{self.head} is solved from moments"
        return fit(examples.by_hash(), self)

    def require_images(self, labels: Sequence[str]) -> None:
        """Raise DataError, naming heads that can do it, if a class has too few images."""
        least = HEADS[self.head].least_images
        few = sorted(name for name, count in Counter(labels).items() if count < least)
        if few:
            able = (
                name
                for name, row in HEADS.items()
                if row.least_images < least and not row.projected
            )
            raise DataError(
                f"Expected at least {least} images of every class for the head {self.head}. "
                f"Received: fewer of {few[0]!r}. Add images, or choose --head {' or '.join(able)}."
            )

    def options(self) -> dict[str, str]:
        """The options that this head has, by name."""
        named = {one.name for one in fields(self)} & HEADS[self.head].options
        return {name: getattr(self, name) for name in sorted(named)}


@dataclass(frozen=True)
class Head:
    """A row of the table: what a head is solved from, one of the two."""

    options: frozenset[str] = frozenset()
    solve: Callable[[Moments, Recipe], LinearHead] | None = None
    """From the moments: exact in any order of rounds, without old images."""
    fit: Callable[[Examples, Recipe], LinearHead] | None = None
    """From the features of the images at hand."""
    least_images: int = 1
    """Of a class."""
    enough_images: int = 1
    """Of a class on average: with fewer, `FOR_FEW` is right more often."""
    projected: bool = False
    """Whether it is for features behind a random projection alone."""
    projected_as: str | None = None
    """The row that it is behind a random projection, where that has a name of its own."""
    before: Mapping[str, str] = field(default_factory=dict)
    """What rounds were solved with that do not record an option, as there was none."""


CLASS_WEIGHTS = ("none", "balanced")

HEADS = {
    "lda": Head(
        frozenset({"shrinkage", "priors"}),
        solve=lambda moments, recipe: closed_form.lda(moments, recipe.shrinkage, recipe.priors),
        enough_images=3,
    ),
    "ridge": Head(
        solve=lambda moments, recipe: closed_form.ridge(moments), projected_as="rp-ridge"
    ),
    "rp-ridge": Head(solve=lambda moments, recipe: closed_form.ridge(moments), projected=True),
    "ncm": Head(solve=lambda moments, recipe: closed_form.ncm(moments), enough_images=3),
    "ncm-cosine": Head(solve=lambda moments, recipe: closed_form.ncm_cosine(moments)),
    "softmax": Head(
        frozenset({"class_weights", "c"}),
        fit=lambda examples, recipe: costs.softmax(examples, recipe.c, recipe.balanced),
        before={"c": f"{costs.USUAL:g}"},
    ),
    "svm": Head(
        frozenset({"class_weights", "c"}),
        fit=lambda examples, recipe: svm(examples, recipe.balanced, recipe.c),
        least_images=2,
    ),
}


FOR_FEW = "ncm-cosine"
"""The head for one image a class, or two: where no class varies, lda is the nearest class mean, and
the length of a feature vector says little of its class (docs/accuracy.md has the figures)."""


def require_known(name: str) -> None:
    """Raise UsageError, listing the known heads, unless `name` is one of them."""
    require_choice("a head", name, HEADS)
