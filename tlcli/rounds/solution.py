"""The head of a round: solved, asked about held-out images, given its temperature."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

from tlcli import evaluation, heads
from tlcli.config import Progress
from tlcli.errors import DataError
from tlcli.evaluation import HeldOutPredictions, Validation, ValidationScheme
from tlcli.extractor import Extractor
from tlcli.heads import Evidence, Fit, LinearHead, Recipe
from tlcli.rounds.intake import require_known_classes, scan
from tlcli.runs import RegisteredClass

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
class Solution:
    """The head of a round, with all that it was solved from."""

    extractor: Extractor
    recipe: Recipe
    fit: Fit
    evidence: Evidence
    """As heads see it: features through the projection."""
    registry: tuple[RegisteredClass, ...]
    head: LinearHead

    @staticmethod
    def of(
        extractor: Extractor,
        recipe: Recipe,
        fit: Fit,
        evidence: Evidence,
        registry: tuple[RegisteredClass, ...],
    ) -> "Solution":
        """Solve the head; its columns are in the order of the registry."""
        names = tuple(entry.name for entry in registry)
        return Solution(extractor, recipe, fit, evidence, registry, fit(evidence).ordered(names))

    def held_out(self, scheme: ValidationScheme, old_too: bool) -> HeldOutPredictions:
        """What the head says of images when it is solved without them.

        Args:
            scheme: how images are held out.
            old_too: whether earlier images are held out too.
        """
        return scheme(self.fit, self.evidence, self.head.classes, old_too)

    def on_test(
        self, test: str, learned: Collection[str], progress: Progress
    ) -> HeldOutPredictions:
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
        taken = {*learned, *self.evidence.new.hashes}
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
        found = self.extractor.features(aside, progress)
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

    def calibrated(
        self, answers: HeldOutPredictions, carried: tuple[float, int] | None
    ) -> "Calibrated":
        """The same with a temperature.

        Args:
            answers: on held-out images.
            carried: the temperature that the rounds before suggest for this head, and the number
                of images behind it; None where there were none, or they are among the answers.
        """
        count = len(answers.true)
        if not count:
            usual = heads.default_temperature(self.head, self.evidence.moments)
            return self.with_temperature(answers, usual if carried is None else carried[0])
        measured = heads.temperature(answers.logits, answers.columns)
        measured = heads.clipped_temperature(measured, self.head, self.evidence.moments)
        if carried is not None:
            measured = heads.blend((measured, count), carried)
        return self.with_temperature(answers, measured)

    def with_temperature(self, answers: HeldOutPredictions, temperature: float) -> "Calibrated":
        """The same with a temperature that is given."""
        temperature = heads.rounded(temperature)
        before, after = (
            evaluation.calibration_error(answers, value) for value in (1.0, temperature)
        )
        head = replace(self.head, temperature=temperature)
        figures = Calibration(temperature, before, after, len(answers.true))
        return Calibrated(replace(self, head=head), figures)


def scheme_for(extractor: Extractor, scheme: ValidationScheme) -> ValidationScheme:
    """How images are held out from heads on this backbone.

    A backbone that was trained here has learned all images but those that a content hash holds out.
    """
    return evaluation.hold_out if extractor.stored.trained else scheme


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A solution whose head has its temperature."""

    solution: Solution
    figures: Calibration

    def validation(
        self,
        held_out: HeldOutPredictions,
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
