"""rename-classes: classes have other names, or become one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tlcli import evaluation, images, runs, strategies
from tlcli.config import Progress, RenameConfig, no_progress
from tlcli.errors import DataError, UsageError
from tlcli.heads import Fit
from tlcli.manifest import RegisteredClass
from tlcli.memory import Memory
from tlcli.rounds.indexed import warn_of_index
from tlcli.rounds.intake import NOTHING, named
from tlcli.rounds.names import former, perhaps, said_of
from tlcli.rounds.parent import Parent
from tlcli.rounds.publication import Draft, publish
from tlcli.rounds.result import Phases, RoundResult, unchanged
from tlcli.rounds.solution import Examination, Problem, Solution, evidence_of, scheme_for


def rename_classes(config: RenameConfig, progress: Progress = no_progress) -> RoundResult:
    """Commit a round in which classes have other names; those that come to have one are united.

    No image is looked at.

    Raises:
        TlcliError: see errors.py; the run is as it was.
    """
    phases = Phases(progress)
    with runs.extending(config.run, config.wait) as writer:
        parent = Parent.of(writer.run, config.runs_on)
        renames = _to_rename(config, parent)
        if not renames:
            return unchanged(config.run, parent.round, NOTHING, phases)
        with phases.phase("memory"):
            called = _Called.of(parent, renames)
        _require_solvable(called)
        then = ", `tlcli index add` knows them by their new name"
        warn_of_index(config.run, renames, then=then)
        return publish(writer, _draft(config, called, writer.next_number, phases), phases)


def _draft(config: RenameConfig, called: "_Called", number: int, phases: Phases) -> Draft:
    """The run under the new names, solved and tested as a round of this number."""
    with phases.phase("head"):
        solution = called.solve()
    with phases.phase("validation"):
        examined = solution.examined(called.examination(solution, config, number), phases.progress)
    manifest = called.parent.round.manifest
    return Draft(
        command="rename-classes",
        strategy=None if called.unites else manifest.strategy,
        examined=examined,
        memory=called.memory,
        anew=called.unites or manifest.exact,
        config=replace(config, renames=called.names),
        intake=NOTHING,
    )


def pairs(run: Path, words: Sequence[str]) -> dict[str, str]:
    """Class → its new name, from words OLD=NEW; where names hold a = the run's classes decide.

    Raises:
        UsageError: a word is something else, or a class is given two names.
        RunError: the run is damaged.
    """
    way = runs.open_run(run).way()
    known = {*way[-1].classes, *former(way)}
    found: dict[str, str] = {}
    for word in words:
        old, new = _pair(word, known)
        if found.setdefault(old, new) != new:
            raise UsageError(
                f"Expected one new name for a class. Received: {found[old]!r} and {new!r} for "
                f"{old!r}. Leave one of them out."
            )
    return found


def _pair(word: str, known: set[str]) -> tuple[str, str]:
    """The two names of OLD=NEW."""
    cuts = [place for place, letter in enumerate(word) if letter == "="]
    if not cuts:
        raise UsageError(f"Expected OLD=NEW. Received: {word!r}. Put = between the two names.")
    halves = [(word[:cut], word[cut + 1 :]) for cut in cuts]
    fitting = [(old, new) for old, new in halves if _as_name(old) in known]
    if len(fitting) > 1:
        raise UsageError(
            f"Expected OLD=NEW with one class before a =. Received: {word!r}, which may begin with "
            f"{named([old for old, _ in fitting])}. Rename one of these from Python."
        )
    old, new = fitting[0] if fitting else halves[0]
    return _as_name(old), new


def _as_name(text: str) -> str:
    """A class name in its one form; the text itself where it can be none."""
    try:
        return images.class_name(text, "OLD=NEW")
    except DataError:
        return text


def _new_name(old: str, text: str) -> str:
    """The new name of a class in its one form."""
    try:
        return images.class_name(text, "OLD=NEW")
    except DataError as error:
        raise UsageError(
            f"Expected a class name of printable characters. Received: {text!r} for {old!r}. "
            "Choose another name."
        ) from error


def _to_rename(config: RenameConfig, parent: Parent) -> dict[str, str]:
    """What is left to be renamed; what was renamed so before is not asked for again."""
    known, before = set(parent.round.classes), parent.former
    asked = {_as_name(old): _new_name(old, new) for old, new in config.renames.items()}
    unknown = {old for old, new in asked.items() if old not in known and before.get(old) != new}
    if unknown:
        raise UsageError(
            f"Expected classes that the run knows. Received: {named(unknown)}. "
            f"{said_of(unknown, before)}{perhaps(unknown - before.keys(), known)}"
            f"It knows {named(known)}."
        )
    return {old: new for old, new in asked.items() if old in known and old != new}


@dataclass(frozen=True, eq=False)
class _Called:
    """A run under the new names of its classes."""

    parent: Parent
    names: Mapping[str, str]
    registry: tuple[RegisteredClass, ...]
    """A united class stands where the first of its parts stood."""
    memory: Memory

    @staticmethod
    def of(parent: Parent, renames: Mapping[str, str]) -> "_Called":
        """What the run remembers, under the new names."""
        first: dict[str, RegisteredClass] = {}
        for entry in parent.round.manifest.classes:
            name = renames.get(entry.name, entry.name)
            first.setdefault(name, replace(entry, name=name))
        return _Called(parent, renames, tuple(first.values()), parent.memory.renamed(renames))

    @property
    def unites(self) -> bool:
        """Whether classes become one, for which the head is solved again."""
        return len(self.registry) < len(self.parent.round.classes)

    @property
    def complete(self) -> bool:
        """Whether the run keeps the features of every image."""
        return self.memory.keeps.every_feature

    @property
    def solvable(self) -> bool:
        """Whether the head can be solved from what the run remembers."""
        enough = self.parent.recipe.from_moments or self.complete
        return self.parent.solved and self.memory.moments is not None and enough

    @property
    def fit(self) -> Fit:
        """The head: the same columns, or solved for the united classes."""
        if self.unites:
            return strategies.first(self.parent.recipe)
        renamed = self.parent.head.renamed(self.names)
        return lambda known: renamed

    def solve(self) -> Solution:
        """The head, without a temperature."""
        extractor, kept = self.parent.extractor, self.memory.kept
        evidence = evidence_of(extractor, self.memory.moments, old=kept)
        return Problem(extractor, self.parent.recipe, self.fit, evidence, self.registry).solved()

    def examination(self, solution: Solution, config: RenameConfig, number: int) -> Examination:
        """Tested on kept images where classes were united; else the temperature stays."""
        scheme = scheme_for(solution.extractor, evaluation.scheme_for(solution.recipe))
        held_out = solution.held_out(scheme, self.unites and self.complete)
        carried = None
        if not self.complete:
            carried = self.parent.suggests(solution.head, self.memory.moments)
        kept = None if self.unites else self.parent.head.temperature
        columns, learned = config.images.columns, self.memory.ledger
        return Examination(held_out, config.test, columns, learned, number, carried, kept)


def _require_solvable(called: _Called) -> None:
    """Refuse to unite classes where the head cannot be solved again, and to leave one alone."""
    if not called.unites:
        return
    if len(called.registry) < 2:
        raise DataError(
            f"Expected at least two classes to remain. Received: {named(called.names)}, which "
            "would all be one. Make a new run instead."
        )
    called.parent.require_seen("to unite classes")
    _require_moments(called.memory)
    if not called.solvable:
        raise DataError(
            "Expected a head that can be solved again for united classes. Received: columns that "
            "were fitted to images. Solve the head anew first with `tlcli extend-classes RUN DATA "
            "--strategy merge --head lda`."
        )


def _require_moments(memory: Memory) -> None:
    if memory.moments is None:
        raise UsageError(
            "Expected a run with moments to unite classes. Received: memory="
            f"{memory.setting!r}, which keeps nothing that a head for them could be solved "
            "from. Give all images once more with `tlcli extend-classes RUN DATA --old-data DATA "
            "--memory moments`."
        )
