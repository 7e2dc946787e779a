"""What the commands that make a round have in common: images in, a head that was measured out."""

import json
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tlcli import evaluation, heads, images
from tlcli.config import Progress
from tlcli.errors import DataError, UsageError
from tlcli.evaluation import Answers, Ask, Validation
from tlcli.features import Features
from tlcli.heads import Fit, Known, LinearHead, Recipe
from tlcli.images import LabelledImage, Listing, Skipped
from tlcli.runs import Manifest, RegisteredClass, Round
from tlcli.stages.lenses import Lens

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Intake:
    """What became of the images that a command was given."""

    used: int
    from_cache: int
    already_learned: int
    duplicates: int
    skipped: tuple[Skipped, ...]
    known_classes: tuple[str, ...] = ()
    """Classes among the used images that an earlier round introduced."""
    removed: int = 0
    """Images that were learned before and are forgotten now."""


@dataclass(frozen=True)
class Calibration:
    """The temperature of a round, and the calibration error with and without it."""

    temperature: float
    ece_before: float | None
    """Expected calibration error (0 to 1) of softmax(logits); None where nothing was held out."""
    ece_after: float | None
    """The same of softmax(logits / temperature)."""
    images: int
    """Held-out images of this round that it rests on; earlier rounds count beside them."""


@dataclass(frozen=True)
class RoundResult:
    """What pretrain, extend-classes and finetune answer."""

    run: Path
    manifest: Manifest
    new_classes: tuple[str, ...]
    intake: Intake
    validation: Validation | None
    seconds: dict[str, float]
    calibration: Calibration | None = None
    choice: tuple[dict[str, Any], ...] = ()
    """What `--head auto` chose from, the best first."""
    training: dict[str, Any] | None = None
    """How the backbone was trained, where it was."""
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
            "head_options": manifest.head_options,
            "backbone": manifest.backbone,
            "backbone_fingerprint": manifest.backbone_fingerprint,
            "classes": list(manifest.class_names),
            "new_classes": list(self.new_classes),
            "images": asdict(self.intake),
            "memory": manifest.memory,
            "memory_sha256": manifest.memory_sha256,
            "exact": manifest.exact,
            "validation": asdict(self.validation) if self.validation else None,
            "calibration": asdict(self.calibration) if self.calibration else None,
            "head_choice": list(self.choice),
            "training": self.training,
            "changed": self.changed,
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


def fresh(listing: Listing, ledger: Mapping[str, str]) -> tuple[list[LabelledImage], list[Skipped]]:
    """The images that the run has not learned, and those it learned under another label."""
    unknown = [image for image in listing.images if image.sha256 not in ledger]
    refused = [
        Skipped(str(image.path), f"it was learned before as {ledger[image.sha256]!r}")
        for image in listing.images
        if ledger.get(image.sha256, image.label) != image.label
    ]
    return unknown, refused


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
    recipe: Recipe
    fit: Fit
    known: Known
    """As heads see it: features through the projection."""
    registry: tuple[RegisteredClass, ...]
    head: LinearHead

    @staticmethod
    def of(
        lens: Lens,
        recipe: Recipe,
        fit: Fit,
        known: Known,
        registry: tuple[RegisteredClass, ...],
    ) -> "Solution":
        """Solve the head; its columns are in the order of the registry."""
        names = tuple(entry.name for entry in registry)
        return Solution(lens, recipe, fit, known, registry, fit(known).ordered(names))

    def held_out(self, ask: Ask, old_too: bool) -> Answers:
        """What the head says of images when it is solved without them.

        Args:
            ask: how images are held out.
            old_too: whether earlier images are held out too.
        """
        return ask(self.fit, self.known, self.head.classes, old_too)

    def on_test(self, test: str, learned: Collection[str], progress: Progress) -> Answers:
        """What the head says of images that the user set aside.

        Args:
            test: DATA.
            learned: content hashes of images that earlier rounds have learned.
            progress: told the phases of reading them.

        Raises:
            DataError: they are of a class that the run does not know, or all of them are learned.
        """
        listing = scan(test, progress)
        require_known_classes(listing, self.head.classes, "Leave them out of --test.")
        taken = {*learned, *self.known.new.hashes}
        aside = [image for image in listing.images if image.sha256 not in taken]
        if len(aside) < len(listing.images):
            log.warning(
                "%d of %d images of --test are learned by the run and were left out",
                len(listing.images) - len(aside),
                len(listing.images),
            )
        if not aside:
            raise DataError(
                f"Expected images in --test that the run does not learn. Received: {test}, all of "
                "whose images it learns. Set other images aside."
            )
        found = self.lens.features(aside, progress)
        if left_out := (*listing.skipped, *found.skipped):
            log.warning(
                "%d images of --test were left out, the first is %s (%s)",
                len(left_out),
                left_out[0].path,
                left_out[0].reason,
            )
        return evaluation.on_test(self.head, self.known.parent, self.lens.view(found.examples))

    def calibrated(self, answers: Answers, carried: tuple[float, int] | None) -> "Calibrated":
        """The same with a temperature.

        Args:
            answers: on held-out images.
            carried: the temperature that the rounds before suggest for this head, and the number
                of images behind it; None where there were none, or they are among the answers.
        """
        count = len(answers.true)
        if not count:
            usual = heads.usual_temperature(self.head, self.known.moments)
            return self.with_temperature(answers, usual if carried is None else carried[0])
        measured = heads.temperature(answers.logits, answers.columns)
        measured = heads.sensible(measured, self.head, self.known.moments)
        if carried is not None:
            measured = heads.blend((measured, count), carried)
        return self.with_temperature(answers, measured)

    def with_temperature(self, answers: Answers, temperature: float) -> "Calibrated":
        """The same with a temperature that is given."""
        temperature = heads.rounded(temperature)
        before, after = (
            evaluation.calibration_error(answers, value) for value in (1.0, temperature)
        )
        head = replace(self.head, temperature=temperature)
        figures = Calibration(temperature, before, after, len(answers.true))
        return Calibrated(replace(self, head=head), figures)


def ask_for(lens: Lens, ask: Ask) -> Ask:
    """How images are held out from heads on this backbone.

    A backbone that was trained here has learned all images but those that a content hash holds out.
    """
    return evaluation.by_holdout if lens.stored.trained else ask


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A solution whose head has its temperature."""

    solution: Solution
    figures: Calibration

    def validation(
        self,
        held_out: Answers,
        test: str | None,
        learned: Collection[str],
        number: int,
        progress: Progress,
    ) -> Validation | None:
        """How good the head is, on images set aside or else on those held out; None without any.

        Args:
            held_out: what the head says of images that are held out.
            test: DATA that the user set aside.
            learned: content hashes of images that earlier rounds have learned.
            number: of the round; classes introduced before it are the old ones.
            progress: told the phases of reading the test images.
        """
        solution = self.solution
        answers = held_out if test is None else solution.on_test(test, learned, progress)
        old = {entry.name for entry in solution.registry if entry.introduced_in_round < number}
        return answers.validation(old) if len(answers.true) else None


def plain(config: Any) -> dict[str, Any]:
    """A config as JSON values, without what the result does not depend on."""
    left_out = ("run", "out", "wait", "watching")
    values = {name: value for name, value in asdict(config).items() if name not in left_out}
    return dict(json.loads(json.dumps(values, default=str)))


def report_of(entry: Round) -> dict[str, Any]:
    """What the command that made a round answered."""
    return dict(json.loads(entry.file("report.json").read_text("utf-8")))


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


def require_test(test: str | None, classes: Collection[str], progress: Progress) -> None:
    """Refuse, before a long training, images set aside that could not be tested.

    Raises:
        UsageError, DataError: there are none, or they are of other classes.
    """
    if test == "-":
        raise UsageError(
            "Expected a folder or a table for --test where the backbone is trained. "
            "Received: test='-'. Write the lines to a file."
        )
    if test is not None:
        require_known_classes(scan(test, progress), classes, "Leave them out of --test.")


def require_classes(current: Round) -> None:
    """Raise UsageError where a round knows no class yet."""
    if not current.classes:
        run = current.folder.parent.parent
        raise UsageError(
            f"Expected a run that knows classes. Received: {run}, which was trained without "
            f"labels. Give it some with `tlcli extend-classes {run} DATA`."
        )


def require_known_classes(listing: Listing, known: Collection[str], advice: str) -> None:
    """Raise DataError naming the classes of DATA that the run does not know."""
    if unknown := set(listing.classes) - set(known):
        raise DataError(
            f"Expected classes that the run knows. Received: {named(unknown)}. {advice}"
        )
