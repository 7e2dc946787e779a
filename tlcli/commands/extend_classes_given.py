"""What `extend-classes` is given, told apart from what the run has learned before."""

from dataclasses import dataclass, replace

from tlcli import strategies
from tlcli.config import ExtendConfig, Progress
from tlcli.errors import UsageError
from tlcli.features import Features
from tlcli.images import LabelledImage, Listing
from tlcli.manifest import RegisteredClass
from tlcli.memory.setting import keeps_next, next_setting
from tlcli.rounds.given_moments import Collected, read_files
from tlcli.rounds.intake import (
    Intake,
    readable,
    registered,
    require_testable,
    scan,
    unlearned,
)
from tlcli.rounds.names import warn_of_alike, warn_of_former
from tlcli.rounds.parent import Parent
from tlcli.rounds.result import Phases
from tlcli.runs import Writer


@dataclass(frozen=True, eq=False)
class Given:
    """What the command was given, without what the run has learned before."""

    found: Features[LabelledImage]
    """Of the images that are new."""
    collected: Collected
    """From files of moments."""
    learned: tuple[LabelledImage, ...]
    """Images of DATA that the run has learned before."""
    old: tuple[LabelledImage, ...]
    """Images of --old-data."""
    registry: tuple[RegisteredClass, ...]
    intake: Intake

    @property
    def anything(self) -> bool:
        """Whether an image is new."""
        return bool(self.found.images or self.collected.ledger)


def require_moments_to_begin(config: ExtendConfig, parent: Parent) -> None:
    """Refuse to keep moments from now on where the run has classes that it never saw."""
    if keeps_next(config.keeping, parent.memory).moments and parent.memory.moments is None:
        setting, _ = next_setting(config.keeping, parent.memory)
        parent.require_seen(f"for --memory {setting}")


def require_room_for_moments(config: ExtendConfig, parent: Parent) -> None:
    """Refuse files of moments where the memory is to hold more of every image."""
    if config.partial and not config.moments:
        raise UsageError("Expected --moments with --partial. Received: none. Leave --partial out.")
    if config.moments and keeps_next(config.keeping, parent.memory).rows:
        setting, _ = next_setting(config.keeping, parent.memory)
        raise UsageError(
            f"Expected a run with --memory moments for --moments. Received: memory={setting!r}, "
            "which needs the images. Add --memory moments."
        )


def _listing(data: str | None, config: ExtendConfig, progress: Progress) -> Listing:
    """What DATA or --old-data holds; nothing where it was not given."""
    return Listing(()) if data is None else scan(data, config.images.columns, progress)


def take_in(config: ExtendConfig, writer: Writer, parent: Parent, phases: Phases) -> Given:
    """DATA, files of moments and --old-data; the features of what is new."""
    collected = read_files(parent, config.moments, config.partial)
    ledger = {**parent.memory.ledger, **collected.ledger}
    listing = _listing(config.data, config, phases.progress)
    fresh, refused = unlearned(listing, ledger)
    learned = tuple(image for image in listing.images if image.sha256 in ledger)
    classes = {*parent.round.classes, *listing.classes, *collected.ledger.values()}
    require_testable(config.test, config.images.columns, classes, phases.progress, parent.former)
    with phases.phase("features"):
        found = parent.extractor.features(fresh, phases.progress)
        skipped = readable(listing, found, refused, config.images.max_bad)
    labels = {*found.labels, *collected.ledger.values()}
    known = labels & set(parent.round.classes)
    warn_of_former(labels - known, parent.former)
    warn_of_alike(labels - known - parent.former.keys(), parent.round.classes)
    registry = registered(parent.round.manifest.classes, labels, writer.next_number)
    intake = replace(
        Intake.of(listing, found, skipped),
        used=len(found.images) + len(collected.ledger),
        already_learned=len(learned) - len(refused) + collected.already_learned,
        known_classes=tuple(sorted(known)),
    )
    old = _listing(config.old_data, config, phases.progress).images
    return Given(found, collected, learned, old, registry, intake)


def mends(config: ExtendConfig, parent: Parent, given: Given) -> bool:
    """Whether the images given make the moments of a run exact that are not.

    Rows that the run keeps stand for their images, with the bits that they have.
    """
    memory, asked = parent.memory, strategies.named(config.learning.strategy)
    if memory.as_jointly or memory.moments is None or memory.kept is not None:
        return False
    hashes = {image.sha256 for image in (*given.learned, *given.old)}
    exactly = parent.solved and (asked is None or asked.exact)
    return exactly and memory.ledger.keys() <= hashes
