"""What follows where the features have moved: memory and head anew, on a new backbone."""

import logging
import math
from dataclasses import dataclass, replace
from typing import Any

from tlcli import backbones, evaluation, files, memory, strategies
from tlcli.commands.finetune_images import AtHand
from tlcli.config import FinetuneConfig, RunsOn
from tlcli.evaluation import HeldOutPredictions
from tlcli.extractor import Extractor, warn_of_projection
from tlcli.heads import Fit, LinearHead, generic
from tlcli.rounds.compensation import Compensated, compensate
from tlcli.rounds.parent import Parent
from tlcli.rounds.publication import Draft, publish
from tlcli.rounds.result import Phases, RoundResult, unchanged
from tlcli.rounds.solution import Examination, Problem, Solution
from tlcli.rounds.training import Summary, checkpoints_of
from tlcli.runs import Writer

log = logging.getLogger(__name__)

ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Moved:
    """A backbone that was trained."""

    model: Any
    head: LinearHead | None
    """As it was trained with the backbone; None where it was not."""
    before: float | None
    """Accuracy on the held-out images of a head on the old backbone that has not seen them."""
    advice: str
    """What to try where it is clearly worse now."""
    pixels: memory.Pixels
    told: Summary


def rebuilt(
    config: FinetuneConfig,
    writer: Writer,
    parent: Parent,
    at_hand: AtHand,
    moved: Moved,
    phases: Phases,
) -> RoundResult:
    """Store the backbone, rebuild what depended on the old features, and commit the next round.

    Where the head is clearly worse on held-out images, nothing is published.
    """
    after = _store(moved.model, parent.extractor, config.runs_on, writer, phases)
    compensated, solution = _rebuild(parent, after, at_hand, moved, phases)
    with phases.phase("validation"):
        held_out = solution.held_out(evaluation.hold_out, old_too=False)
        accuracy = accuracy_of(held_out)
        if _is_worse(accuracy, len(held_out.true), moved):
            checkpoints_of(writer, {}).discard()
            return unchanged(config.run, parent.round, at_hand.nothing_new, phases)
        how = Examination(
            held_out,
            config.test,
            config.images.columns,
            parent.memory.ledger,
            writer.next_number,
        )
        examined = solution.examined(how, phases.progress)
    with phases.phase("memory"):
        remembered = compensated.memory(parent.memory, after, moved.pixels)
    anew, taken = parent.recipe.from_moments, at_hand.intake
    told = moved.told.followed_by(compensated.drift, moved.before, accuracy)
    draft = Draft("finetune", None, examined, remembered, anew, config, taken, training=told)
    return publish(writer, draft, phases)


def accuracy_of(held_out: HeldOutPredictions) -> float | None:
    """The share of right answers; None where there are none."""
    return evaluation.accuracies(held_out)[0] if len(held_out.true) else None


def _is_worse(after: float | None, count: int, moved: Moved) -> bool:
    """Whether the head on the new backbone is clearly worse than the one before, which is said.

    Clearly: by more than the standard error of the accuracy, and by more than one image.
    """
    before = moved.before
    if before is None or after is None or after >= before:
        return False
    error = max(1, math.sqrt(count * before * (1 - before))) / count
    worse = before - after > error + ROUNDING
    log.warning(
        "fine-tuning did not help: %.1f %% of %d held-out images are right, %.1f %% before%s",
        100 * after,
        count,
        100 * before,
        f". Nothing is published; {moved.advice}" if worse else ", which may be chance",
    )
    return worse


def _store(
    model: Any, before: Extractor, runs_on: RunsOn, writer: Writer, phases: Phases
) -> Extractor:
    with phases.phase("backbone"), files.saving(writer.run.path), writer.staging() as staged:
        old = before.stored
        stored = backbones.store(
            model,
            old.name,
            backbones.FINE_TUNED,
            staged,
            old.precision,
            old.drawing,
            old.reading,
        )
        folder = writer.add_backbone(staged, stored.fingerprint)
    warn_of_projection(before)
    plain = Extractor.of(backbones.load_stored(folder), runs_on, None)
    return plain if before.projection is None else plain.through(before.projection.width)


def _rebuild(
    parent: Parent, after: Extractor, at_hand: AtHand, moved: Moved, phases: Phases
) -> tuple[Compensated, Solution]:
    """What depended on the old features: the memory's images, and the head."""
    with phases.phase("features"):
        found = compensate(
            parent, after, at_hand.examples, at_hand.kept, moved.pixels, phases.progress
        )
    with phases.phase("head"):
        fit = _fit(parent, after, found, moved.head)
        registry = parent.round.manifest.classes
        return found, Problem(after, parent.recipe, fit, found.evidence(after), registry).solved()


def _fit(parent: Parent, after: Extractor, moved: Compensated, trained: LinearHead | None) -> Fit:
    """Solved again, or else the head that was trained with the backbone.

    That head sees the backbone's features: behind a projection it would be of no use. Where there
    are classes without images, what the others look like is taken to be what it was.
    """
    solvable = parent.recipe.from_moments or after.projection is not None
    if trained is None or (moved.total is not None and solvable):
        return strategies.first(parent.recipe)
    if moved.total is None and after.projection is None:
        remembered = replace(trained, generic=parent.head.generic)
        return lambda known: remembered
    return lambda known: generic.remembering(trained, known)
