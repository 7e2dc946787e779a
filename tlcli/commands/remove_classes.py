"""remove-classes: the run as if classes, or images, had never been learned."""

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tlcli import evaluation, gaussian, images, moments, runs, strategies
from tlcli.config import Progress, RemoveConfig, no_progress
from tlcli.errors import DataError, UsageError
from tlcli.extractor import warn_of_projection
from tlcli.features import Examples
from tlcli.heads import Fit, LinearHead
from tlcli.images import ImageFile, LabelledImage
from tlcli.manifest import RegisteredClass
from tlcli.memory import Memory
from tlcli.moments import Moments
from tlcli.rounds.indexed import warn_of_index
from tlcli.rounds.intake import NOTHING, named, scan
from tlcli.rounds.names import perhaps, said_of
from tlcli.rounds.parent import Parent
from tlcli.rounds.publication import Draft, publish
from tlcli.rounds.recall import recall, same_bits_advice, with_same_bits
from tlcli.rounds.result import Phases, RoundResult, unchanged
from tlcli.rounds.solution import Examination, Problem, Solution, evidence_of, scheme_for
from tlcli.runs import Round

log = logging.getLogger(__name__)


def remove_classes(config: RemoveConfig, progress: Progress = no_progress) -> RoundResult:
    """Commit a round without some classes, or without some images.

    Raises:
        TlcliError: see errors.py; the run is as it was.
    """
    phases = Phases(progress)
    with runs.extending(config.run, config.wait) as writer:
        parent = Parent.of(writer.run, config.runs_on)
        _require_known(config, parent, writer.run.rounds())
        to_forget = _to_forget(config)
        to_remove = _to_remove(config, parent, to_forget)
        if not to_remove and parent.unseen.isdisjoint(config.names):
            return unchanged(config.run, parent.round, NOTHING, phases)
        with phases.phase("features"):
            given = [*to_forget, *_given(config, progress)]
            left = _leave(config, parent, to_remove, given, progress)
        _require_forgetting_head(config, left)
        return publish(writer, _draft(config, left, writer.next_number, phases), phases)


def _draft(config: RemoveConfig, left: "_Remaining", number: int, phases: Phases) -> Draft:
    """What remains, solved, tested and remembered as a round of this number."""
    warn_of_projection(left.parent.extractor)
    _warn_of_backbone(left.parent)
    warn_of_index(config.run, config.names, left.forgotten)
    with phases.phase("head"):
        solution = left.solve()
    with phases.phase("validation"):
        examined = solution.examined(left.examination(solution, config, number), phases.progress)
    with phases.phase("memory"):
        remembered = left.memory()
    return Draft(
        command="remove-classes",
        strategy=None if left.anew else left.parent.round.manifest.strategy,
        examined=examined,
        memory=remembered,
        anew=left.anew,
        config=config,
        intake=replace(NOTHING, removed=len(left.forgotten)),
    )


def _warn_of_backbone(parent: Parent) -> None:
    """Say that a backbone that was trained does not forget."""
    if parent.extractor.stored.trained:
        log.warning(
            "the backbone was trained, on images that may be among these: memory and head forget "
            "them, the backbone cannot. `tlcli pretrain` with other --weights begins without it"
        )


def _require_known(config: RemoveConfig, parent: Parent, history: Sequence[Round]) -> None:
    """Refuse names that the run never knew; what it has forgotten before is not asked for again."""
    known, former = set(parent.round.classes), parent.former
    forgotten = {name for entry in history for name in entry.classes} - known - former.keys()
    if unknown := set(config.names) - known - forgotten:
        raise UsageError(
            f"Expected classes that the run knows. Received: {named(unknown)}. "
            f"{said_of(unknown, former)}{perhaps(unknown - former.keys(), known)}"
            f"It knows {named(known)}."
        )


def _given(config: RemoveConfig, progress: Progress) -> Sequence[LabelledImage]:
    """The images of --data."""
    return scan(config.data, config.images.columns, progress).images if config.data else ()


def _to_forget(config: RemoveConfig) -> list[ImageFile]:
    """The images of --images."""
    paths = list(images.find_images(config.images_of))
    hashed = list(zip(paths, images.content_hashes(paths), strict=True))
    readable = [ImageFile(path, key) for path, key in hashed if isinstance(key, str)]
    if len(readable) < len(paths) or (config.images_of and not paths):
        bad = [str(path) for path, key in hashed if not isinstance(key, str)] or config.images_of
        raise DataError(
            f"Expected images to forget. Received: {bad[0]}, which cannot be read as one. "
            "Correct --images."
        )
    return readable


def _to_remove(config: RemoveConfig, parent: Parent, given: list[ImageFile]) -> frozenset[str]:
    """Content hashes of the learned images that are to be forgotten."""
    ledger = parent.memory.ledger
    of_classes = {key for key, name in ledger.items() if name in config.names}
    asked = {image.sha256 for image in given}
    if strange := len(asked - ledger.keys()):
        log.warning("%d of %d images of --images were never learned", strange, len(asked))
    return frozenset(of_classes | asked & ledger.keys())


def _require_forgetting_head(config: RemoveConfig, left: "_Remaining") -> None:
    """Refuse to forget images of a class that stays, where its column would stay as it is."""
    ledger = left.parent.memory.ledger
    stay = {ledger[key] for key in left.forgotten} & set(left.classes)
    if stay and not left.anew and not config.approximate:
        raise DataError(
            "Expected a head that can be solved again without the images. Received: the columns of "
            f"{named(stay)} were fitted to them, and cannot be. Solve the head anew first "
            "with `tlcli extend-classes RUN DATA --strategy merge --head lda`, or add "
            "--approximate to keep the columns."
        )


@dataclass(frozen=True, eq=False)
class _Remaining:
    """What remains of a run."""

    parent: Parent
    forgotten: frozenset[str]
    """Content hashes of the images that are removed."""
    registry: tuple[RegisteredClass, ...]
    total: Moments | None
    exact: bool
    """Whether the moments are those of the remaining images, bit for bit."""
    examples: Examples
    """Features of remaining images that the run keeps."""
    removed: Examples | None = None
    """Features of the images that are removed, as far as they are known."""

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.registry)

    @property
    def complete(self) -> bool:
        """Whether the run keeps the features of every image."""
        return self.parent.memory.keeps.every_feature

    @property
    def anew(self) -> bool:
        """Whether the head is solved again; otherwise it loses columns."""
        recipe = self.parent.recipe
        if not self.parent.solved:
            return False
        return self.total is not None if recipe.from_moments else self.complete

    @property
    def fit(self) -> Fit:
        """The head of what remains."""
        if self.anew:
            return strategies.first(self.parent.recipe)
        left: LinearHead = self.parent.head.ordered(self.classes)
        return lambda known: left

    def solve(self) -> Solution:
        """The head, without a temperature."""
        extractor = replace(self.parent.extractor, learned=None)
        evidence = evidence_of(extractor, self.total, old=self.examples)
        return Problem(extractor, self.parent.recipe, self.fit, evidence, self.registry).solved()

    def memory(self) -> Memory:
        """What the run remembers of what remains."""
        return self.parent.memory.forgetting(self.forgotten, self.total, self.exact, self.removed)

    def examination(self, solution: Solution, config: RemoveConfig, number: int) -> Examination:
        """Tested on kept images, where the head can be solved without them.

        The temperature of the parent stays where the head lost columns alone.
        """
        scheme = scheme_for(solution.extractor, evaluation.scheme_for(solution.recipe))
        held_out = solution.held_out(scheme, self.anew and self.complete)
        carried = None if self.complete else self.parent.suggests(solution.head, self.total)
        kept = None if self.anew else self.parent.head.temperature
        columns, learned = config.images.columns, self.parent.memory.ledger.keys() - self.forgotten
        return Examination(held_out, config.test, columns, learned, number, carried, kept)


def _leave(
    config: RemoveConfig,
    parent: Parent,
    to_remove: frozenset[str],
    given: Sequence[ImageFile],
    progress: Progress,
) -> _Remaining:
    ledger = parent.memory.ledger
    left = {key: name for key, name in ledger.items() if key not in to_remove}
    registry = _registry(parent, set(left.values()) | (parent.unseen - set(config.names)))
    kept = recall(parent, (), False, progress, left).examples
    before = parent.memory.moments
    if before is None:
        return _Remaining(parent, to_remove, registry, None, True, kept)
    known = with_same_bits(parent, recall(parent, given, True, progress, to_remove))
    if known.missing and not config.approximate:
        raise _unknown_features(parent, len(known.missing), len(to_remove))
    total = moments.subtract(before, parent.extractor.moments(known.examples))
    if known.missing:
        total = gaussian.without_unknown(total, Counter(ledger[key] for key in known.missing))
    exact = parent.memory.exact and not known.missing
    return _Remaining(parent, to_remove, registry, total, exact, kept, known.examples)


def _registry(parent: Parent, stay: Collection[str]) -> tuple[RegisteredClass, ...]:
    """The classes that stay, each where it stood."""
    registry = tuple(entry for entry in parent.round.manifest.classes if entry.name in stay)
    if len(registry) < 2:
        raise DataError(
            f"Expected at least two classes to remain. Received: {len(registry)}. "
            "Make a new run instead."
        )
    return registry


def _unknown_features(parent: Parent, missing: int, asked: int) -> DataError:
    return DataError(
        f"Expected the features of the images to be removed. Received: those of "
        f"{missing} of {asked} images are neither kept nor in the cache"
        f"{same_bits_advice(parent)}, or add --approximate."
    )
