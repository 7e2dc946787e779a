"""finetune --objective of a metric: a projection of features, beside the backbone or its end."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import (
    backbones,
    evaluation,
    files,
    images,
    moments,
    retrieval,
    runs,
    strategies,
    training,
)
from tlcli.commands.finetune_images import AtHand, same_again, take_in
from tlcli.commands.finetune_projection import UNFREEZE, Divided, Found, layers_learn, train
from tlcli.commands.finetune_rebuilt import Moved, accuracy_of, rebuilt
from tlcli.config import FinetuneConfig, Progress, TrainingOptions
from tlcli.errors import UsageError
from tlcli.evaluation import Validation
from tlcli.evaluation.retrieval import Gain, Measured, Ranking
from tlcli.features import Examples, LearnedProjection
from tlcli.manifest import Manifest
from tlcli.retrieval import Descriptor, Ground
from tlcli.rounds.intake import require_test
from tlcli.rounds.parent import Parent
from tlcli.rounds.publication import CURVES, KERAS_MODEL, commit, versions
from tlcli.rounds.result import REPORT, Phases, RoundResult, options_of, report_of, unchanged
from tlcli.rounds.solution import Calibration, Problem, evidence_of
from tlcli.rounds.training import (
    Summary,
    checkpoints_of,
    discard_outdated,
    require_options,
)
from tlcli.runs import Writer
from tlcli.training import (
    METRICS,
    Metric,
    TrainingHistory,
)

log = logging.getLogger(__name__)

Float32 = NDArray[np.float32]

ADVICE = "leave --into-backbone out, for descriptors alone, or try another --objective"
"""Where heads are worse on the projection."""

_OF_IMAGES = ("augment", "backbone_lr_factor", "layer_decay", "mixed_precision")
"""Training options that are about images and layers."""


def finetune_metric(config: FinetuneConfig, metric: Metric, progress: Progress) -> RoundResult:
    """Train a projection on features, and commit the next round with it.

    The head, the memory and the backbone are those of the round before; or else, with
    `into_backbone`, the projection ends the backbone, and all that depends on features is made
    anew. Whole classes are held out; where the projection is worse than plain descriptors on
    these, nothing is published.

    Raises:
        TlcliError: see errors.py; the run is as it was.
        Stopped: a signal came; the training state is kept beside the rounds.
    """
    phases = Phases(progress)
    _require_options(config)
    require_options(config.training, config.watching)
    with runs.extending(config.run, config.wait) as writer:
        parent = Parent.of(writer.run, config.runs_on)
        at_hand = take_in(config, parent, phases)
        if same_again(config, parent, at_hand):
            discard_outdated(writer)
            return unchanged(config.run, parent.round, at_hand.nothing_new, phases)
        divided = Divided.of(_learnable(config, parent, at_hand, phases))
        with phases.phase("training"):
            found = train(config, metric, parent, divided, at_hand, writer, phases.progress)
        _warn_of_start(found.history)
        with phases.phase("validation"):
            judged = _Judged.of(found, parent, divided)
        if judged.is_worse:
            checkpoints_of(writer, {}).discard()
            return unchanged(config.run, parent.round, at_hand.nothing_new, phases)
        trained = _Trained(found, divided, judged)
        if config.into_backbone:
            moved = _moved(parent, at_hand, trained, phases)
            return rebuilt(config, writer, parent, at_hand, moved, phases)
        manifest = _manifest(config, writer, parent, found.projection)
        result = _result(config, parent, at_hand, manifest, trained)
        return _publish(writer, parent, result, trained, phases)


def _require_options(config: FinetuneConfig) -> None:
    """Refuse what has no effect on what is trained, or too much."""
    name = config.objective
    if layers_learn(config) and not config.into_backbone:
        raise UsageError(
            f"Expected --into-backbone, or --unfreeze {UNFREEZE}, with --objective {name}: layers "
            "that learn give heads and memory other features. Received: "
            f"unfreeze={config.unfreeze!r}. Add --into-backbone, or leave --unfreeze out."
        )
    if foreign := _foreign(config):
        flag = foreign[0].replace("_", "-")
        raise UsageError(
            f"Expected --{flag} without --objective {name}{_but_for(foreign[0])}. Received: both. "
            f"Leave --{flag} out."
        )


def _but_for(option: str) -> str:
    """What would give an option of images something to do."""
    if option not in _OF_IMAGES:
        return ", on which it has no effect"
    return ", which without --unfreeze sees features alone, and no image"


def _foreign(config: FinetuneConfig) -> list[str]:
    """Options that were given and that are of the head, or of images and layers as they are."""
    usual, asked = TrainingOptions(), config.training
    of_images = () if layers_learn(config) else _OF_IMAGES
    foreign = [
        option
        for option in (*of_images, "label_smoothing")
        if getattr(asked, option) != getattr(usual, option)
    ]
    foreign += ["distillation_weight"] * (config.distillation_weight is not None)
    foreign += ["train_batch_norm"] * config.train_batch_norm
    foreign += ["distribute"] * (config.distribute != FinetuneConfig.distribute)
    foreign += ["test"] * (config.test is not None and not config.into_backbone)
    return foreign


def _learnable(config: FinetuneConfig, parent: Parent, at_hand: AtHand, phases: Phases) -> Examples:
    """The images that may train the projection, or judge it.

    Heads on it are tested on images that it has not seen either; the round learns them all.
    """
    if not config.into_backbone:
        return _learned(at_hand)
    classes = parent.round.classes
    require_test(config.test, config.images.columns, classes, phases.progress, parent.former)
    parent.require_seen("as --into-backbone gives them other features")
    return at_hand.examples.where(~at_hand.held_out)


def _learned(at_hand: AtHand) -> Examples:
    """The images that the run has learned: no other may leave a trace, as none could be removed."""
    if count := int(at_hand.new.sum()):
        log.warning(
            "%d of %d images are left out, as the run has not learned them: "
            "`tlcli extend-classes` does",
            count,
            len(at_hand.examples),
        )
    return at_hand.examples.where(~at_hand.new)


def _warn_of_start(history: TrainingHistory) -> None:
    """Say where no epoch was better than what training began with."""
    if history.kept <= history.start:
        log.warning(
            "no epoch was better on held-out classes than the whitened directions that training "
            "starts from: MAP@R %.1f %% before, %.1f %% after epoch %d",
            100 * history.start.accuracy,
            100 * history.kept.accuracy,
            history.best,
        )


@dataclass(frozen=True)
class _Judged:
    """Kinds of descriptors on the classes that were held out."""

    rankings: tuple[Ranking, ...]
    gains: tuple[Gain, ...]
    """Of the learned ones, over each of the others."""

    @staticmethod
    def of(found: Found, parent: Parent, divided: Divided) -> "_Judged":
        """What whitens is made of the images that were learned from alone."""
        learned, bits = divided.learned, parent.extractor.bits
        total = moments.of(learned.vectors, learned.labels, "", bits)
        ground = Ground(parent.extractor.stored.width, total, found.projection)
        *others, last = retrieval.possible(ground).values()
        vectors = divided.held_out.vectors[:]
        rows = [(kind, kind.of(vectors)) for kind in others] + [(last, last.of(found.tested))]
        return _Judged._over(rows, divided.held_out.labels)

    @staticmethod
    def _over(kinds: Sequence[tuple[Descriptor, Float32]], labels: Sequence[str]) -> "_Judged":
        found = [Measured.of(kind.name, rows, labels) for kind, rows in kinds]
        *others, last = found
        return _Judged(
            tuple(kind.ranking for kind in found), tuple(last.over(other) for other in others)
        )

    @property
    def is_worse(self) -> bool:
        """Whether the projection is clearly worse than plain descriptors, which is said."""
        plain, *others = self.gains
        figure = plain.map_at_r
        if figure.interval[1] >= 0:
            self._warn_of_equals(others)
            return False
        log.warning(
            "the projection did not help: on held-out classes its MAP@R is %.1f points below "
            "that of plain descriptors (95 %% interval %.1f to %.1f). Nothing is published; "
            "try fewer --epochs, a smaller --lr, another --objective, or more classes",
            *(100 * -value for value in (figure.value, figure.interval[1], figure.interval[0])),
        )
        return True

    def _warn_of_equals(self, others: Sequence[Gain]) -> None:
        for other in others:
            if other.map_at_r.interval[0] <= 0:
                log.warning(
                    "%s descriptors, which need no training, may be as good on held-out classes: "
                    "MAP@R %+.1f points (%+.1f to %+.1f) with the projection",
                    other.than,
                    *(100 * value for value in (other.map_at_r.value, *other.map_at_r.interval)),
                )


@dataclass(frozen=True, eq=False)
class _Trained:
    """A projection, how it came about, and how good it is."""

    found: Found
    divided: Divided
    judged: _Judged

    def to_json(self, at_hand: Examples) -> dict[str, Any]:
        """What the round says of its training."""
        history, divided = self.found.history, self.divided
        return {
            "objective": self.found.projection.objective,
            "epochs": len(history.epochs),
            "best_epoch": history.best,
            "lr": history.peak,
            "map_at_r_before": history.start.accuracy,
            "map_at_r": history.kept.accuracy,
            "images_sha256": images.digest_of(at_hand.hashes, at_hand.labels),
            "learned_images": len(divided.learned),
            "held_out_images": len(divided.held_out),
            "held_out_classes": sorted(set(divided.held_out.labels)),
            "descriptors": [entry.to_json() for entry in self.judged.rankings],
            "differences": [asdict(entry) for entry in self.judged.gains],
            "drift": None,
        }


def _moved(parent: Parent, at_hand: AtHand, trained: _Trained, phases: Phases) -> Moved:
    """The backbone that ends in the projection."""
    found = trained.found
    with phases.phase("backbone"):
        below = found.model or backbones.load_model(parent.extractor.stored)
        model = backbones.projected(below, found.projection.centre, found.projection.matrix)
    lines = training.lines_of(found.history.epochs)
    told = Summary(trained.to_json(at_hand.examples), lines, None)
    return Moved(model, None, _accuracy_before(parent, at_hand), ADVICE, at_hand.load, told)


def _accuracy_before(parent: Parent, at_hand: AtHand) -> float | None:
    """Of the head on the backbone as it was, solved without the held-out images."""
    extractor, examples = parent.extractor, at_hand.examples
    evidence = evidence_of(extractor, extractor.moments(examples), examples)
    fit, registry = strategies.first(parent.recipe), parent.round.manifest.classes
    problem = Problem(extractor, parent.recipe, fit, evidence, registry)
    return accuracy_of(problem.held_out(evaluation.hold_out, old_too=False))


def _result(
    config: FinetuneConfig, parent: Parent, at_hand: AtHand, manifest: Manifest, trained: _Trained
) -> RoundResult:
    """What is said of the head is what was said before."""
    before = report_of(parent.round)
    return RoundResult(
        config.run,
        manifest,
        (),
        replace(at_hand.intake, used=int((~at_hand.new).sum())),
        _recorded(Validation, before["validation"]),
        {},
        calibration=_recorded(Calibration, before["calibration"]),
        training=trained.to_json(at_hand.examples),
    )


def _publish(
    writer: Writer, parent: Parent, result: RoundResult, trained: _Trained, phases: Phases
) -> RoundResult:
    """Commit the files of the parent, linked, under a manifest that names the projection."""
    left_out = {REPORT, METRICS, CURVES}
    if not result.manifest.config["keras_model"]:
        left_out.add(KERAS_MODEL)

    def write(staged: Path) -> None:
        for name in parent.round.manifest.files.keys() - left_out:
            files.link(parent.round.file(name), staged / name)
        with files.written(staged / METRICS) as stream:
            stream.write(training.lines_of(trained.found.history.epochs))

    projection = trained.found.projection
    with phases.phase("save"):
        writer.add_projection(projection.content, projection.fingerprint)
        committed = commit(writer, result.manifest, result.to_json(), write)
    return replace(result, manifest=committed.manifest, seconds=phases.total())


def _manifest(
    config: FinetuneConfig, writer: Writer, parent: Parent, projection: LearnedProjection
) -> Manifest:
    return replace(
        parent.round.manifest,
        round=writer.next_number,
        parent=parent.round.number,
        command="finetune",
        config=options_of(config),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        learned_projection=projection.fingerprint,
        files={},
    )


def _recorded(kind: Any, content: dict[str, Any] | None) -> Any:
    """What the parent's report says of the head, which is the same."""
    if content is None:
        return None
    return kind(**{entry.name: content.get(entry.name) for entry in fields(kind)})
