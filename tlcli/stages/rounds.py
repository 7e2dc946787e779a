"""What the commands that publish a round have in common: features in, a committed round out."""

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones, engines, evaluation, features, files, heads, images, memory, moments
from tlcli.backbones import StoredBackbone
from tlcli.config import Progress
from tlcli.engines import Choice
from tlcli.errors import DataError, EngineUnavailable
from tlcli.evaluation import Validation
from tlcli.features import Features, Space, Store
from tlcli.heads import Fit, LinearHead
from tlcli.images import LabelledImage, Listing, Skipped
from tlcli.memory import Memory
from tlcli.runs import Manifest, RegisteredClass, Round, Writer

log = logging.getLogger(__name__)

MOST_SATURATED = 1e-3
"""Share of feature values off the fixed-point grid above which there is a warning."""

_LIBRARIES = ("tlcli", "keras", "tensorflow", "openvino", "numpy", "scipy", "pillow", "h5py")


@dataclass(frozen=True)
class Intake:
    """What became of the images that a command was given."""

    used: int
    from_cache: int
    already_learned: int
    duplicates: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class RoundResult:
    """What pretrain, extend-classes and finetune answer."""

    run: Path
    manifest: Manifest
    new_classes: tuple[str, ...]
    intake: Intake
    validation: Validation | None
    seconds: dict[str, float]
    changed: bool = True
    """False when there was nothing to do and no round was added."""

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        manifest = self.manifest
        return {
            "run": str(self.run),
            "round": manifest.round,
            "command": manifest.command,
            "strategy": manifest.strategy,
            "head": manifest.head,
            "backbone": manifest.backbone,
            "backbone_fingerprint": manifest.backbone_fingerprint,
            "classes": list(manifest.class_names),
            "new_classes": list(self.new_classes),
            "images": asdict(self.intake),
            "memory": manifest.memory,
            "memory_sha256": manifest.memory_sha256,
            "exact": manifest.exact,
            "validation": asdict(self.validation) if self.validation else None,
            "seconds": self.seconds,
        }


@dataclass
class Clock:
    """Seconds of each phase of a command."""

    seconds: dict[str, float] = field(default_factory=dict)
    _start: float = field(default_factory=time.perf_counter)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def total(self) -> dict[str, float]:
        """All phases, rounded to milliseconds, and the time since the clock was made."""
        phases = {name: self.seconds.get(name, 0.0) for name in ("features", "head", "save")}
        phases |= self.seconds | {"total": time.perf_counter() - self._start}
        return {name: round(value, 3) for name, value in phases.items()}


@dataclass(frozen=True)
class Lens:
    """A stored backbone together with the engines that may run it, the best first."""

    stored: StoredBackbone
    engines: list[tuple[Choice, Store]]
    """Each with the cache of its features; those that failed are dropped."""

    @staticmethod
    def of(stored: StoredBackbone, engine: str) -> "Lens":
        """An engine is opened at the first image that is not in the cache, and once.

        Raises:
            UsageError: there is no such engine, or it cannot run this backbone.
        """
        facts = (stored.fingerprint, stored.image_size, stored.width, stored.name)
        choices = engines.choices(stored, engine)
        return Lens(stored, [(choice, Store(Space(*facts, choice.name))) for choice in choices])

    def features(self, wanted: Sequence[LabelledImage], progress: Progress) -> Features:
        """The feature vectors of images.

        Raises:
            EngineUnavailable: no engine runs the backbone on this machine.
        """
        engine, store = self.engines[0]
        try:
            return features.extract(wanted, store, engine.open, progress)
        except EngineUnavailable as error:
            name = self.stored.name
            if len(self.engines) == 1:
                raise EngineUnavailable(
                    f"Expected to run {name} with {engine.name}. Received: {error}. "
                    "Use another --engine or another machine."
                ) from error
            log.warning("%s runs with Keras, which is slower: %s", name, error)
            del self.engines[0]
            return self.features(wanted, progress)

    def moments(self, found: Features) -> moments.Moments:
        """The moments of features that this backbone gave."""
        stored = self.stored
        result = moments.of(
            found.vectors, found.labels, stored.fingerprint, stored.fixed_point_bits
        )
        values = len(found.images) * stored.width
        if result.saturated > MOST_SATURATED * values:
            log.warning(
                "%d of %d feature values are beyond what the memory can hold and were cut; "
                "check the accuracy, and try another backbone",
                result.saturated,
                values,
            )
        return result


def scan(data: str, progress: Progress) -> Listing:
    """What DATA holds; a class folder without images is an error.

    Raises:
        UsageError, DataError: see `images.scan`.
    """
    listing = images.scan(data, progress=lambda done, total: progress("reading", done, total))
    if listing.empty_classes:
        raise DataError(
            f"Expected images in every class folder of {data}. Received: no image in "
            f"{named(listing.empty_classes)}. Add images, or remove the folder."
        )
    return listing


def named(names: Collection[str], most: int = 10) -> str:
    """Class names for a message, shortened when there are many."""
    shown = ", ".join(repr(name) for name in sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def readable(
    listing: Listing, found: Features, refused: Sequence[Skipped], max_bad: float
) -> tuple[Skipped, ...]:
    """The images of DATA that were left out, if they are few enough to go on.

    Args:
        listing: what DATA holds.
        found: the features of its images.
        refused: images that were not looked at, because the run knows them under another label.
        max_bad: largest share of left out images.

    Raises:
        DataError: there are more, or nothing is left of a class.
    """
    skipped = (*listing.skipped, *refused, *found.skipped)
    images.reject_bad(listing.total, skipped, max_bad)
    left_out = {entry.path for entry in skipped}
    usable = {image.label for image in listing.images if str(image.path) not in left_out}
    if lost := set(listing.named_classes) - usable:
        raise DataError(
            f"Expected readable images in every class. Received: none left in {named(lost)}; the "
            f"first that was left out is {skipped[0].path} ({skipped[0].reason}). "
            "Repair the files, or remove the class."
        )
    return skipped


@dataclass(frozen=True, eq=False)
class Solution:
    """The head of a round, with all that it was solved from."""

    lens: Lens
    head_name: str
    fit: Fit
    found: Features
    total: moments.Moments
    """Of all images so far, those in `found` included."""
    registry: tuple[RegisteredClass, ...]
    head: LinearHead

    @staticmethod
    def of(
        lens: Lens,
        head_name: str,
        fit: Fit,
        found: Features,
        total: moments.Moments,
        registry: tuple[RegisteredClass, ...],
    ) -> "Solution":
        """Solve the head; its columns are in the order of the registry."""
        names = tuple(entry.name for entry in registry)
        head = fit(total, found).ordered(names)
        return Solution(lens, head_name, fit, found, total, registry, head)

    def validate(
        self, number: int, test: str | None, by_folds: bool, progress: Progress
    ) -> Validation | None:
        """How good the head is; None where no image can tell.

        Args:
            number: of the round; classes introduced before it are the old ones.
            test: DATA set aside by the user; it goes before everything else.
            by_folds: k-fold subtraction; otherwise a share is held out by content hash.
            progress: told the phases of reading the test images.
        """
        classes = [entry.name for entry in self.registry]
        old = [entry.name for entry in self.registry if entry.introduced_in_round < number]
        if test is not None:
            listing = scan(test, progress)
            require_known_classes(listing, classes, "Leave them out of --test.")
            tested = self.lens.features(listing.images, progress)
            if left_out := (*listing.skipped, *tested.skipped):
                first = left_out[0]
                log.warning(
                    "%d images of --test were left out, the first is %s (%s)",
                    len(left_out),
                    first.path,
                    first.reason,
                )
            return evaluation.validate_on_test(self.head, tested, classes, old)
        by = evaluation.validate_by_folds if by_folds else evaluation.validate_by_holdout
        validation = by(self.fit, self.total, self.found, classes, old)
        return validation if validation.images else None


@dataclass(frozen=True, eq=False)
class Draft:
    """A round that is ready to be written."""

    command: str
    strategy: str | None
    solution: Solution
    memory: Memory
    exact: bool
    config: Any
    intake: Intake
    validation: Validation | None


def publish(writer: Writer, draft: Draft, clock: Clock) -> RoundResult:
    """Write a round's files and commit it.

    Raises:
        StorageError: it cannot be saved; the run is as it was.
    """
    manifest = _manifest(writer, draft)
    new = tuple(c.name for c in draft.solution.registry if c.introduced_in_round == manifest.round)
    result = RoundResult(
        writer.run.path, manifest, new, draft.intake, draft.validation, clock.seconds
    )
    target = writer.run.path
    with clock.phase("save"), files.saving(target), writer.staging() as staged:
        head = draft.solution.head
        heads.save(head, staged / "head.h5")
        memory.save(draft.memory, staged / "memory.h5")
        if draft.config.keras_model:
            backbones.write_classifier(
                draft.solution.lens.stored,
                head.weights,
                head.bias,
                head.classes,
                staged / "model.keras",
            )
        report = {key: value for key, value in result.to_json().items() if key != "seconds"}
        files.write_json(staged / "report.json", report)
        committed = writer.commit(staged, manifest)
    return RoundResult(
        writer.run.path, committed.manifest, new, draft.intake, draft.validation, clock.total()
    )


def _manifest(writer: Writer, draft: Draft) -> Manifest:
    number = writer.next_number
    return Manifest(
        round=number,
        parent=number - 1 if number > 1 else None,
        command=draft.command,
        strategy=draft.strategy,
        head=draft.solution.head_name,
        backbone=draft.solution.lens.stored.name,
        backbone_fingerprint=draft.solution.lens.stored.fingerprint,
        classes=draft.solution.registry,
        memory=memory.KIND,
        memory_sha256=draft.memory.moments.digest,
        exact=draft.exact,
        config=plain(draft.config),
        versions=backbones.versions(_LIBRARIES),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def plain(config: Any) -> dict[str, Any]:
    """A config as JSON values, without what says only where the run is and when it may start."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(config).items()
        if name not in ("run", "out", "wait")
    }


def registered(
    parent: Sequence[RegisteredClass], labels: Collection[str], number: int
) -> tuple[RegisteredClass, ...]:
    """The registry with the classes that are new, in sorted order, behind the known ones."""
    known = {entry.name for entry in parent}
    new = sorted(set(labels) - known)
    return (*parent, *(RegisteredClass(name, number) for name in new))


def unchanged(run: Path, current: Round, intake: Intake, clock: Clock) -> RoundResult:
    """The answer of a command that had nothing to do."""
    return RoundResult(run, current.manifest, (), intake, None, clock.total(), changed=False)


def require_known_classes(listing: Listing, known: Collection[str], advice: str) -> None:
    """Raise DataError naming the classes of DATA that the run does not know."""
    if unknown := set(listing.classes) - set(known):
        raise DataError(
            f"Expected classes that the run knows. Received: {named(unknown)}. {advice}"
        )


def split(
    wanted: Sequence[LabelledImage], mask: NDArray[np.bool_]
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """The images where `mask` is false, and those where it is true."""
    pairs = list(zip(wanted, mask, strict=True))
    return [image for image, chosen in pairs if not chosen], [
        image for image, chosen in pairs if chosen
    ]
