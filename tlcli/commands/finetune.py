"""finetune: train the top of the backbone, then rebuild what depended on its features."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import (
    backbones,
    heads,
    moments,
    runs,
    strategies,
    training,
)
from tlcli.commands.finetune_images import AtHand, keeping_of, same_again, take_in
from tlcli.commands.finetune_metric import finetune_metric
from tlcli.commands.finetune_rebuilt import Moved, rebuilt
from tlcli.config import FinetuneConfig, Progress, no_progress
from tlcli.errors import DataError, UsageError
from tlcli.heads import Evidence, LinearHead, Recipe
from tlcli.rounds.compensation import require_movable
from tlcli.rounds.intake import (
    named,
    require_test,
)
from tlcli.rounds.parent import Parent
from tlcli.rounds.result import FollowedResult, Phases, RoundResult, following, unchanged
from tlcli.rounds.training import (
    discard_outdated,
    identity_of,
    require_options,
    summary_of,
)
from tlcli.training import Distribution, Teacher, TrainingHistory, TrainingSetup
from tlcli.training.split import Split, split_images
from tlcli.training.tensorboard import watch_with

log = logging.getLogger(__name__)

ADVICE = "try a smaller --lr, another --augment, or more images"
"""Where training the backbone makes the head worse."""

UNFREEZE = "3"
"""Blocks that learn where nothing else is asked for."""


def finetune(
    config: FinetuneConfig, progress: Progress = no_progress
) -> RoundResult | FollowedResult:
    """Unfreeze the top of the backbone, train it with the head, and commit the next round.

    Features, moments and head are rebuilt on the new backbone from the images at hand; what the
    run remembers of others is carried over by an estimate, or refused with `require_exact`.

    Raises:
        TlcliError: see errors.py; the run is as it was.
        Stopped: a signal came; the training state is kept beside the rounds.
    """
    objective = training.objective_of(config.objective, "finetune")
    if objective.metric is not None:
        return finetune_metric(config, objective.metric, progress)
    _require_projection(config)
    config = replace(config, unfreeze=_unfreeze(config))
    phases = Phases(progress)
    require_options(config.training, config.watching)
    distribution = training.begin(config.distribute, config.train_batch_norm)
    with distribution.until_published():
        work = _lead if distribution.leads else _follow
        answer = work(config, distribution, phases)
    return answer if distribution.leads else following(answer)


def _require_projection(config: FinetuneConfig) -> None:
    """Refuse to put a projection into the backbone where none is trained."""
    if config.into_backbone:
        rows = training.objectives_of("finetune")
        projections = [name for name, row in rows.items() if row.metric is not None]
        raise UsageError(
            f"Expected --into-backbone with an objective that trains a projection: "
            f"{', '.join(projections)}. Received: --objective {config.objective}. Leave "
            "--into-backbone out, as the backbone is trained itself."
        )


def _follow(config: FinetuneConfig, distribution: Distribution, phases: Phases) -> RoundResult:
    """Make the same steps as the chief, which writes; the run is only read."""
    parent = Parent.of(runs.open_run(config.run), config.runs_on)
    at_hand = take_in(config, parent, phases)
    if not same_again(config, parent, at_hand):
        _require(config, parent, at_hand, phases)
        _train(config, parent, at_hand, distribution, phases)
    return unchanged(config.run, parent.round, at_hand.nothing_new, phases)


def _lead(config: FinetuneConfig, distribution: Distribution, phases: Phases) -> RoundResult:
    """Train, rebuild, publish."""
    with runs.extending(config.run, config.wait) as writer:
        parent = Parent.of(writer.run, config.runs_on)
        at_hand = take_in(config, parent, phases)
        if same_again(config, parent, at_hand):
            discard_outdated(writer)
            return unchanged(config.run, parent.round, at_hand.nothing_new, phases)
        _require(config, parent, at_hand, phases)
        tuned = _train(config, parent, at_hand, distribution, phases)
        return rebuilt(config, writer, parent, at_hand, _moved(tuned), phases)


def _moved(tuned: "_Tuned") -> Moved:
    """The accuracy before is not known where the head had seen the held-out images."""
    history, split = tuned.history, tuned.split
    before = history.start.accuracy if tuned.comparable else None
    told = summary_of(history, split.digest)
    return Moved(tuned.model, tuned.head, before, ADVICE, split.pixels, told)


def _unfreeze(config: FinetuneConfig) -> str:
    """What learns."""
    return UNFREEZE if config.unfreeze is None else config.unfreeze


def _require(config: FinetuneConfig, parent: Parent, at_hand: AtHand, phases: Phases) -> None:
    """Refuse what cannot be tested, or not be carried over."""
    classes = parent.round.classes
    require_test(config.test, config.images.columns, classes, phases.progress, parent.former)
    require_movable(parent, at_hand.examples)


@dataclass(frozen=True, eq=False)
class _Tuned:
    model: Any
    head: LinearHead
    """As it was trained with the backbone."""
    history: TrainingHistory
    split: Split
    comparable: bool
    """Whether the head that training started from had not seen the held-out images."""


def _train(
    config: FinetuneConfig,
    parent: Parent,
    at_hand: AtHand,
    distribution: Distribution,
    phases: Phases,
) -> _Tuned:
    """The fine-tuned model, from a head that has not seen the held-out images if that can be."""
    stored = parent.extractor.stored
    with phases.phase("training"):
        with distribution.scope():
            model = backbones.load_model(stored)
        solved = _solved(parent, at_hand)
        start = _with_temperature(solved or parent.head, at_hand)
        split = _split(parent, at_hand, start.classes, phases.progress)
        setting = _setup(config, parent, distribution, model, split, phases.progress)
        _name_single(at_hand)
        before = backbones.statistics(model)
        with distribution.scope():
            teacher = _teacher(config, parent, start, at_hand)
        begun = training.Start.of(start, _some_vectors(at_hand))
        head, history = training.fit(setting, begun, split.learned, split.held_out, teacher)
        if backbones.statistics(model) != before and not config.train_batch_norm:
            raise AssertionError("BatchNormalization moved")
        model = distribution.collected(model, lambda: backbones.load_model(stored))
        return _Tuned(model, head, history, split, solved is not None)


def _some_vectors(at_hand: AtHand) -> NDArray[np.float32]:
    """Features (n, D) of at most a thousand images, evenly spaced."""
    count = len(at_hand.examples)
    return at_hand.examples.vectors[np.linspace(0, count - 1, min(count, 1000)).astype(np.intp)]


def _split(parent: Parent, at_hand: AtHand, classes: Sequence[str], progress: Progress) -> Split:
    examples, size = at_hand.examples, parent.extractor.stored.image_size
    return split_images(
        examples.hashes,
        examples.labels,
        classes,
        at_hand.load,
        size,
        progress,
        examples.groups,
    )


def _setup(
    config: FinetuneConfig,
    parent: Parent,
    distribution: Distribution,
    model: Any,
    split: Split,
    progress: Progress,
) -> TrainingSetup:
    stored = parent.extractor.stored
    options, classes = config.training, parent.round.classes
    identity = identity_of(options, config.runs_on.engine, split.described, classes) | {
        "unfreeze": config.unfreeze,
        "train-batch-norm": config.train_batch_norm,
        "distillation-weight": config.distillation_weight,
        "cached-views": config.cached_views,
        "cached-gb": config.cached_gb,
        training.ROUND: parent.round.number,
        "backbone": stored.fingerprint,
    }
    return TrainingSetup(
        model,
        training.blocks_to_train(model, stored.name, _unfreeze(config)),
        config.train_batch_norm,
        config.training,
        distribution.checkpoints(runs.Run(config.run).training_folder, identity),
        config.watching.resume,
        watch_with(config.watching.tensorboard if distribution.leads else None),
        progress,
        distribution,
        keeping_of(config, parent.extractor),
    )


def _name_single(at_hand: AtHand) -> None:
    """Warn of classes that cannot be validated."""
    counts = Counter(at_hand.examples.labels)
    single = [name for name, count in counts.items() if count == 1]
    if single and at_hand.held_out.any():
        log.warning(
            "of %s there is one image, which is learned: nothing tells how well",
            named(single),
        )


def _with_temperature(head: LinearHead, at_hand: AtHand) -> LinearHead:
    """The head with the temperature that fits the held-out images."""
    tested = at_hand.examples.where(at_hand.held_out)
    if not len(tested):
        return head
    columns = np.array([head.classes.index(label) for label in tested.labels])
    found = heads.temperature(head.logits(tested.vectors), columns)
    return replace(head, temperature=heads.rounded(found))


def _solved(parent: Parent, at_hand: AtHand) -> LinearHead | None:
    """The head of the run solved without the held-out images; None where that cannot be done.

    On the features themselves: gradients do not see a projection.
    """
    extractor, recipe, memory = parent.extractor, parent.recipe, parent.memory
    kept = at_hand.examples.where(~at_hand.held_out)
    classes = parent.round.classes
    absent = set(classes) - set(kept.labels)
    if not absent:
        plain = replace(extractor, projection=None)
        recipe = Recipe() if extractor.projection is not None else recipe
        evidence = Evidence(plain.moments(kept), kept, plain.no_examples())
        return strategies.first(recipe)(evidence).ordered(classes)
    if extractor.projection is not None:
        raise DataError(
            f"Expected images of every class of a run with a projection. Received: none of "
            f"{named(absent)}. Give them with --old-data DATA."
        )
    usable = memory.exact and memory.kinds <= {extractor.kind}
    if not recipe.from_moments or memory.moments is None or not usable:
        return None
    learned = at_hand.examples.where(at_hand.held_out & ~at_hand.new)
    total = moments.subtract(memory.moments, extractor.moments(learned))
    total = moments.add(total, extractor.moments(kept.where(at_hand.new[~at_hand.held_out])))
    return recipe.solve(total).ordered(classes)


def _teacher(
    config: FinetuneConfig, parent: Parent, start: LinearHead, at_hand: AtHand
) -> Teacher | None:
    """The network as it was, where there are classes without images, or where it is asked for."""
    absent = set(start.classes) - set(at_hand.examples.labels)
    weight = config.distillation_weight
    if weight is None:
        weight = len(absent) / len(start.classes)
    if not weight:
        return None
    if absent:
        log.warning(
            "%s of %d classes have no images: their answers are held by distillation, their "
            "memory is carried over by an estimate",
            len(absent),
            len(start.classes),
        )
    return Teacher(backbones.load_model(parent.extractor.stored), start, weight)
