"""The head of a round: solved, asked about held-out images, given its temperature."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

from tlcli import evaluation, heads
from tlcli.config import Columns, Progress
from tlcli.errors import DataError
from tlcli.evaluation import HeldOutPredictions, Validation, ValidationScheme
from tlcli.extractor import Extractor
from tlcli.features import Examples
from tlcli.heads import Evidence, Fit, LinearHead, Recipe
from tlcli.manifest import RegisteredClass
from tlcli.moments import Moments
from tlcli.rounds.intake import require_known_classes, scan, warn_of_tones

log = logging.getLogger(__name__)


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


@dataclass(frozen=True, eq=False)
class Problem:
    """What a head is to be solved from."""

    extractor: Extractor
    recipe: Recipe
    fit: Fit
    evidence: Evidence
    """As heads see it: features through the projection."""
    registry: tuple[RegisteredClass, ...]

    @property
    def moments(self) -> Moments | None:
        """Of all images."""
        return self.evidence.moments

    @property
    def classes(self) -> tuple[str, ...]:
        """The columns of the head, in the order of the registry."""
        return tuple(entry.name for entry in self.registry)

    def solved(self) -> "Solution":
        """With the head."""
        head = self.fit(self.evidence).ordered(self.classes)
        return Solution(self.extractor, self.recipe, self.fit, self.evidence, self.registry, head)

    def held_out(self, scheme: ValidationScheme, old_too: bool) -> HeldOutPredictions:
        """What the head says of images when it is solved without them.

        Args:
            scheme: how images are held out.
            old_too: whether earlier images are held out too.
        """
        return scheme(self.fit, self.evidence, self.classes, old_too)


@dataclass(frozen=True, eq=False)
class Solution(Problem):
    """The head of a round, with all that it was solved from."""

    head: LinearHead

    def on_test(
        self, test: str, columns: Columns, learned: Collection[str], progress: Progress
    ) -> HeldOutPredictions:
        """What the head says of images that the user set aside.

        Args:
            test: DATA.
            columns: of a table.
            learned: content hashes of images that earlier rounds have learned.
            progress: told the phases of reading them.

        Raises:
            DataError: they are of a class that the run does not know, or all of them are learned.
        """
        listing = scan(test, columns, progress)
        require_known_classes(listing, self.head.classes, "Leave them out of --test.")
        taken = {*learned, *self.evidence.new.hashes}
        groups = self.evidence.groups
        aside = [
            image
            for image in listing.images
            if image.sha256 not in taken and image.group_key not in groups
        ]
        if len(aside) < len(listing.images):
            log.warning(
                "%d of %d images of --test, or their groups, are learned by the run and were "
                "left out",
                len(listing.images) - len(aside),
                len(listing.images),
            )
        if not aside:
            raise DataError(
                f"Expected images in --test that the run does not learn. Received: {test}, all of "
                "whose images it learns. Set other images aside."
            )
        found = self.extractor.features(aside, progress)
        warn_of_tones(found.tones)
        if left_out := (*listing.skipped, *found.skipped):
            log.warning(
                "%d images of --test were left out, the first is %s (%s)",
                len(left_out),
                left_out[0].path,
                left_out[0].reason,
            )
        return evaluation.on_test(
            self.head, self.evidence.parent, self.extractor.project(found.examples)
        )

    def examined(self, how: "Examination", progress: Progress) -> "Examined":
        """The same with a temperature, and how good it is."""
        temperature = heads.rounded(how.temperature_of(self))
        held_out = how.held_out
        before, after = (
            evaluation.calibration_error(held_out, value) for value in (1.0, temperature)
        )
        calibration = Calibration(temperature, before, after, len(held_out.true))
        solution = replace(self, head=replace(self.head, temperature=temperature))
        tested = held_out
        if how.test is not None:
            tested = solution.on_test(how.test, how.columns, how.learned, progress)
        return Examined(solution, calibration, how.validation(solution, tested))


@dataclass(frozen=True, eq=False)
class Examination:
    """How a head is given its temperature, and what it is tested on."""

    held_out: HeldOutPredictions
    """What the head says of images when it is solved without them."""
    test: str | None
    """DATA that the user set aside, to be tested on instead."""
    columns: Columns
    """Of a table."""
    learned: Collection[str]
    """Content hashes of images that earlier rounds have learned, which are no test."""
    number: int
    """Of the round; classes introduced before it are the old ones."""
    carried: tuple[float, int] | None = None
    """The temperature that the rounds before suggest for this head, and the number of images behind
    it; None where there were none, or they are among those held out."""
    kept: float | None = None
    """The temperature that stays, where one does."""

    def temperature_of(self, solution: Solution) -> float:
        """Measured on the images that are held out, blended with what the rounds before suggest."""
        if self.kept is not None:
            return self.kept
        count = len(self.held_out.true)
        if not count:
            usual = heads.default_temperature(solution.head, solution.moments)
            return usual if self.carried is None else self.carried[0]
        measured = heads.temperature(self.held_out.logits, self.held_out.columns)
        measured = heads.clipped_temperature(measured, solution.head, solution.moments)
        return measured if self.carried is None else heads.blend((measured, count), self.carried)

    def validation(self, solution: Solution, tested: HeldOutPredictions) -> Validation | None:
        """The figures; None without images to test on."""
        old = {entry.name for entry in solution.registry if entry.introduced_in_round < self.number}
        return tested.validation(old) if len(tested.true) else None


@dataclass(frozen=True, eq=False)
class Examined:
    """A solution whose head has its temperature, and how good it is."""

    solution: Solution
    calibration: Calibration
    validation: Validation | None


def evidence_of(
    extractor: Extractor,
    total: Moments | None,
    new: Examples | None = None,
    old: Examples | None = None,
) -> Evidence:
    """What a head may be solved from: features as heads see them, through the projection.

    Args:
        extractor: of the backbone that gave the features.
        total: the moments of all images.
        new: raw features of the images of this round; None for none.
        old: raw features of earlier images, as far as they are known; None for none.
    """
    nothing = extractor.no_examples()
    return Evidence(
        total,
        extractor.project(nothing if new is None else new),
        extractor.project(nothing if old is None else old),
    )


def scheme_for(extractor: Extractor, scheme: ValidationScheme) -> ValidationScheme:
    """How images are held out from heads on this backbone.

    A backbone that was trained here has learned all images but those that a content hash holds out.
    """
    return evaluation.hold_out if extractor.stored.trained else scheme
