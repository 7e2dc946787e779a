"""The round that a command starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tlcli import heads, memory, strategies
from tlcli.config import MemoryOptions, RunsOn
from tlcli.errors import RunError, UsageError
from tlcli.extractor import Extractor
from tlcli.heads import Evidence, LinearHead, Recipe
from tlcli.heads.evidence import Refit
from tlcli.memory import Memory
from tlcli.memory.setting import first_setting
from tlcli.moments import Moments
from tlcli.rounds.intake import named
from tlcli.rounds.names import former
from tlcli.runs import Round, Run


@dataclass(frozen=True, eq=False)
class Parent:
    """The round that is extended."""

    round: Round
    head: LinearHead
    recipe: Recipe
    memory: Memory
    extractor: Extractor
    former: Mapping[str, str]
    """Names that no class has any more → what their class is called now."""

    @staticmethod
    def of(run: Run, runs_on: RunsOn) -> "Parent":
        """The current round of a run.

        Raises:
            RunError: a file is damaged.
        """
        return run.steadily(lambda: Parent._of_current(run, runs_on))

    @staticmethod
    def _of_current(run: Run, runs_on: RunsOn) -> "Parent":
        current = run.round()
        extractor = Extractor.of_round(run, current, runs_on)
        return Parent(
            current,
            head_of(current, extractor),
            _recipe_of(current),
            _memory_of(current, extractor),
            extractor,
            former(run.way()),
        )

    @property
    def solved(self) -> bool:
        """Whether the head was solved from all images, and not by gradients, here or elsewhere."""
        return not self.unseen and strategies.solved_anew(self.round.manifest.strategy)

    @property
    def unseen(self) -> frozenset[str]:
        """Classes of which the run has learned no image: it was adopted with them."""
        return frozenset(self.round.classes) - frozenset(self.memory.ledger.values())

    def require_seen(self, purpose: str) -> None:
        """Raise UsageError where there are classes of which the run has learned no image."""
        if self.unseen:
            raise UsageError(
                f"Expected a run that has learned all old images, {purpose}. Received: none of "
                f"{named(self.unseen)}, with which it was adopted. Where you have their images, "
                "begin again with `tlcli adopt MODEL --data DATA`."
            )

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


def head_of(entry: Round, extractor: Extractor) -> LinearHead:
    """The head of a round, which fits its classes and its features.

    Raises:
        RunError: it is damaged, or does not.
    """
    head = heads.load(path := entry.file("head.h5"))
    if head.classes != entry.classes or len(head.weights) != extractor.width:
        raise _unfitting(
            path,
            f"a head of {len(entry.classes)} classes on features of a width {extractor.width}",
            f"{len(head.classes)} classes, width {len(head.weights)}",
        )
    return head


def _memory_of(entry: Round, extractor: Extractor) -> Memory:
    """The memory of a round, which is of its features."""
    found = memory.load(entry)
    wanted = (extractor.fingerprint, extractor.bits, extractor.width)
    total, kept = found.moments, found.kept
    if total is not None and (total.fingerprint, total.bits, total.width) != wanted:
        raise _unfitting(entry.folder, "moments of its backbone", "those of another")
    if kept is not None and kept.vectors.shape[1] != extractor.stored.width:
        raise _unfitting(entry.folder, "features of its backbone", "those of another")
    if found.setting != entry.manifest.memory:
        raise _unfitting(entry.folder, f"the memory {entry.manifest.memory!r}", found.setting)
    if foreign := sorted(found.classes - set(entry.classes)):
        raise _unfitting(entry.folder, "a memory of its classes", f"one of {foreign[0]!r}")
    if total is not None and (missing := sorted(set(entry.classes) - set(total.classes))):
        raise _unfitting(entry.folder, "moments of its classes", f"none of {missing[0]!r}")
    return found


def _recipe_of(entry: Round) -> Recipe:
    """What the head of a round was solved with, and how it came about."""
    manifest = entry.manifest
    try:
        strategies.solved_anew(manifest.strategy)
        return Recipe.recorded(manifest.head, manifest.head_options)
    except UsageError as error:
        raise RunError(f"{entry.folder}: {error}") from error


def _unfitting(path: Path, expected: str, received: str) -> RunError:
    return RunError(
        f"Expected {expected}. Received: {path} with {received}. Restore the run from a copy."
    )


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
