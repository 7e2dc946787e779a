"""extend-classes: the next round."""

from collections.abc import Mapping
from dataclasses import dataclass

from tlcli import backbones, extension, heads, memory, moments, runs
from tlcli.config import ExtendConfig, Progress, no_progress
from tlcli.features import Features
from tlcli.heads import LinearHead
from tlcli.images import LabelledImage, Listing, Skipped
from tlcli.memory import Memory
from tlcli.runs import RegisteredClass, Round, Writer
from tlcli.stages import rounds
from tlcli.stages.rounds import Clock, Draft, Intake, Lens, RoundResult, Solution


@dataclass(frozen=True, eq=False)
class _Parent:
    """The round that is extended."""

    round: Round
    head: LinearHead
    memory: Memory
    lens: Lens

    @staticmethod
    def of(writer: Writer, engine: str) -> "_Parent":
        current = writer.run.round()
        folder = writer.run.backbone_folder(current.manifest.backbone_fingerprint)
        return _Parent(
            current,
            heads.load(current.file("head.h5")),
            memory.load(current.file("memory.h5")),
            Lens.of(backbones.load_stored(folder), engine),
        )


def extend_classes(config: ExtendConfig, progress: Progress = no_progress) -> RoundResult:
    """Add classes, or images of known ones, to a run and commit the next round.

    Images that the run has learned before are recognised by their content and left out; when
    nothing new remains, no round is added.

    Raises:
        TlcliError: see errors.py; the run is as it was.
    """
    clock = Clock()
    if config.head is not None:
        heads.require_known(config.head)
    with runs.extending(config.run, config.wait) as writer:
        parent = _Parent.of(writer, config.engine)
        listing = rounds.scan(config.data, progress)
        fresh, refused = _fresh(listing, parent.memory.ledger)
        known = len(listing.images) - len(fresh) - len(refused)
        head = config.head or parent.round.manifest.head
        registry = rounds.registered(
            parent.round.manifest.classes, {image.label for image in fresh}, writer.next_number
        )
        grows = len(registry) > len(parent.round.classes)
        strategy = extension.choose(config.strategy, head, grows or not fresh)
        with clock.phase("features"):
            found = parent.lens.features(fresh, progress)
            skipped = rounds.readable(listing, found, refused, config.images.max_bad)
        intake = Intake(len(fresh), found.from_cache, known, listing.duplicates, skipped)
        if not fresh:
            return rounds.unchanged(config.run, parent.round, intake, clock)
        solution = _solve(parent, strategy, head, found, registry, clock)
        with clock.phase("validation"):
            exact = extension.STRATEGIES[strategy].exact
            validation = solution.validate(writer.next_number, config.test, exact, progress)
        draft = Draft(
            command="extend-classes",
            strategy=strategy,
            solution=solution,
            memory=_remembering(parent.memory, solution),
            exact=exact and parent.memory.complete,
            config=config,
            intake=intake,
            validation=validation,
        )
        return rounds.publish(writer, draft, clock)


def _fresh(
    listing: Listing, ledger: Mapping[str, str]
) -> tuple[list[LabelledImage], list[Skipped]]:
    """The images that the run has not learned, and those it learned under another label."""
    fresh = [image for image in listing.images if image.sha256 not in ledger]
    refused = [
        Skipped(str(image.path), f"it was learned before as {ledger[image.sha256]!r}")
        for image in listing.images
        if ledger.get(image.sha256, image.label) != image.label
    ]
    return fresh, refused


def _solve(
    parent: _Parent,
    strategy: str,
    head: str,
    found: Features,
    registry: tuple[RegisteredClass, ...],
    clock: Clock,
) -> Solution:
    names = tuple(entry.name for entry in registry)
    with clock.phase("head"):
        total = moments.add(parent.memory.moments, parent.lens.moments(found))
        fit = extension.STRATEGIES[strategy].fit(head, parent.head, names)
        return Solution.of(parent.lens, head, fit, found, total, registry)


def _remembering(old: Memory, solution: Solution) -> Memory:
    learned = dict(zip(solution.found.hashes, solution.found.labels, strict=True))
    return Memory(solution.total, {**old.ledger, **learned}, old.complete)
