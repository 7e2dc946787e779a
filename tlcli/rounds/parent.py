"""The round that a command starts from."""

from dataclasses import dataclass

from tlcli import heads, memory, strategies
from tlcli.config import MemoryOptions, RunsOn
from tlcli.errors import UsageError
from tlcli.extractor import Extractor
from tlcli.heads import Evidence, LinearHead, Recipe
from tlcli.heads.evidence import Refit
from tlcli.memory import Memory
from tlcli.memory.setting import first_setting
from tlcli.moments import Moments
from tlcli.runs import Round, Run


@dataclass(frozen=True, eq=False)
class Parent:
    """The round that is extended."""

    round: Round
    head: LinearHead
    recipe: Recipe
    memory: Memory
    extractor: Extractor

    @staticmethod
    def of(run: Run, runs_on: RunsOn) -> "Parent":
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
            Extractor.of_round(run, current, runs_on),
        )

    @property
    def solved(self) -> bool:
        """Whether the head was solved from all images, and not by gradients, here or elsewhere."""
        return not self.unseen and strategies.solved_anew(self.round.manifest.strategy)

    @property
    def unseen(self) -> frozenset[str]:
        """Classes of which the run has learned no image: it was adopted with them."""
        return frozenset(self.round.classes) - frozenset(self.memory.ledger.values())

    @property
    def refit(self) -> Refit | None:
        """Solves the head again without some images; None where the round's path matters."""
        if not self.round.manifest.exact:
            return None
        fit, nothing = strategies.first(self.recipe), self.extractor.no_examples()
        return lambda total, old: fit(Evidence(total, self.extractor.project(nothing), old))

    def suggests(self, head: LinearHead, total: Moments | None) -> tuple[float, int] | None:
        """The temperature for the next head, and how many images are behind it.

        Without moments to compare the two heads by it is that of this head; None where they
        cannot be compared.
        """
        if total is None or self.memory.moments is None:
            return self.head.temperature, len(self.memory.ledger)
        before = heads.margin(self.head, self.memory.moments)
        if before <= 0:
            return None
        ratio = heads.margin(head, total) / before
        return (self.head.temperature * ratio, len(self.memory.ledger)) if ratio > 0 else None


def empty_memory(extractor: Extractor, asked: MemoryOptions) -> Memory:
    """The memory of a run that has learned no image yet."""
    setting, per_class = first_setting(asked)
    start = extractor.empty_moments() if memory.SETTINGS[setting].moments else None
    return memory.empty(setting, per_class, start, extractor.stored.width)


def require_projection(recipe: Recipe, extractor: Extractor) -> None:
    """Refuse a head that needs a projection in a run that has none."""
    if heads.HEADS[recipe.head].projected and extractor.projection is None:
        raise UsageError(
            f"Expected a run with a projection for the head {recipe.head}. Received: one without. "
            "The projection is chosen at `tlcli pretrain --projection`; use --head ridge."
        )
