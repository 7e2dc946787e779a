"""Strategies: how the head of a round comes from the parent's head, the moments and features."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tlcli import heads, memory
from tlcli.config import StrategyOptions
from tlcli.errors import UsageError, require_choice
from tlcli.features import Examples
from tlcli.heads import (
    Distillation,
    Evidence,
    Fit,
    LinearHead,
    Recipe,
    Standardisation,
    Task,
    generic,
)
from tlcli.heads import columns as gaussian_columns
from tlcli.heads.imprinting import grow
from tlcli.memory.setting import DEFAULT_EXEMPLARS

DISTILLATION_TEMPERATURE = 2.0


HELD_FOR_BIAS = 0.2
"""Share of the exemplars on which the bias layer of BiC is fitted."""


LEAST_FOR_BIAS = 10
"""Exemplars a class that BiC needs."""


@dataclass(frozen=True)
class StrategyInput:
    """What a strategy is told."""

    recipe: Recipe
    classes: tuple[str, ...]
    """The registry of the new round; the parent's classes come first."""
    options: StrategyOptions
    exemplars_per_class: int = DEFAULT_EXEMPLARS


class OldImages(StrEnum):
    """How many of the images that were learned before, in ascending order."""

    NONE = "none"
    SOME = "some"
    """As exemplars."""
    ALL = "all"


@dataclass(frozen=True)
class Available:
    """What a run can offer to a strategy."""

    recipe: Recipe
    grows: bool
    """Whether the round adds classes."""
    learns: bool
    """Whether the features of a new image are at hand."""
    moments: bool
    """Whether the run keeps moments."""
    old_images: OldImages
    """Whose features will be at hand."""
    begun: bool = True
    """Whether the run knows classes."""
    sample: bool = False
    """Whether unlabelled images of the usual kind are given."""


@dataclass(frozen=True)
class Condition:
    """What a strategy needs of a run, and what is said where it is not there."""

    met: Callable[[Available], bool]
    expected: str
    received: str
    advice: str

    def require(self, strategy: str, available: Available) -> None:
        """Raise UsageError unless the run offers it."""
        if not self.met(available):
            text = f"{self.expected} Received: {self.received}. {self.advice}"
            raise UsageError(text.format(strategy=strategy, run=available))


@dataclass(frozen=True)
class Strategy:
    """A row of the table: one way to extend a head."""

    says: str
    """As the help of `--strategy` has it."""
    fit: Callable[[StrategyInput, Evidence], LinearHead]
    exact: bool = False
    """Whether the head is solved anew: it equals joint training on all images seen so far."""
    from_moments: bool = False
    """Whether the moments will do, so that no image is needed, neither old nor new."""
    keeps_temperature: bool = False
    """Whether the parent's temperature stays, so that old probabilities keep their ratios."""
    old_images: OldImages = OldImages.NONE
    """Those whose features it needs, where moments will not do."""
    generic: bool = False
    """Whether it goes by what old images look like on average."""
    samples: bool = False
    """Whether it learns from unlabelled images of the usual kind, too."""
    options: frozenset[str] = frozenset()
    """Those of `StrategyOptions` that are for it."""
    needs: tuple[Condition, ...] = ()
    """In the order in which they are tried."""


def first(recipe: Recipe) -> Fit:
    """Round 1, or a head solved anew: columns in sorted order of the classes."""

    def fit(evidence: Evidence) -> LinearHead:
        if recipe.from_moments:
            assert evidence.moments is not None
            return generic.remembering(recipe.solve(evidence.moments), evidence)
        return generic.remembering(recipe.fit(evidence.old.joined(evidence.new)), evidence)

    return fit


def adopted(head: LinearHead) -> Fit:
    """Round 1 of a classifier that was trained elsewhere: its columns, whatever the evidence."""
    return lambda evidence: head


def following(strategy: Strategy, asked: StrategyInput) -> Fit:
    """The head of a later round; columns in the order of the registry."""

    def fit(evidence: Evidence) -> LinearHead:
        head = strategy.fit(asked, evidence)
        parent = evidence.parent
        if not strategy.exact and parent is not None and head.generic is not None:
            knows = parent if head.generic.expected else head
            head = replace(head, generic=generic.joined(head.generic, knows, evidence.new))
        return head.ordered(asked.classes)

    return fit


def _anew(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    return first(asked.recipe)(evidence)


def _freeze_old(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    """Gaussian columns; fitted to tell new images from old ones where some of these are known."""
    parent = evidence.parent
    assert parent is not None
    known = np.isin(np.array(evidence.new.labels, object), parent.classes)
    new, others = evidence.new.where(~known), evidence.new.where(known).joined(_sampled(evidence))
    usual = generic.beside(parent, new)
    total = evidence.moments or gaussian_columns.moments_of((new, others))
    head = gaussian_columns.gaussian_columns(parent, new, total, usual)
    if not len(others):
        return head
    count = len(head.classes) - len(parent.classes)
    return gaussian_columns.against(head, new, others, count, usual.lead)


def _sampled(evidence: Evidence) -> Examples:
    """Images of the usual kind, each of the class that the parent takes it for."""
    assert evidence.parent is not None
    if evidence.sample is None:
        return evidence.new.take([])
    taken_for = evidence.parent.predict(evidence.sample.vectors)
    return replace(evidence.sample, labels=tuple(taken_for.tolist()))


def _naive(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    return heads.fit_columns(_start(asked, evidence), _task(asked, evidence, evidence.new))


def _lwf(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    start = _start(asked, evidence)
    old = _old(asked, evidence)
    options = asked.options
    weight = options.distillation_weight
    if weight is None:
        weight = float(old.sum()) / len(old)
    temperature = options.distillation_temperature or DISTILLATION_TEMPERATURE
    how = Distillation(int(old.sum()), weight, temperature)
    images = evidence.new.joined(_sampled(evidence))
    task = replace(_task(asked, evidence, images), anchored=old, distillation=how)
    return heads.fit_columns(start, task)


def _replay(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    known = evidence.old.joined(_sampled(evidence))
    exemplars = memory.herded(known, asked.exemplars_per_class)
    rehearsed = exemplars.joined(evidence.new).by_hash()
    start, old = _start(asked, evidence), _old(asked, evidence)
    correction = asked.options.bias_correction or "wa"
    if correction == "bic":
        return _with_bias_layer(asked, evidence, start, rehearsed)
    head = _rehearse(asked, evidence, start, rehearsed)
    return _aligned(head, old) if correction == "wa" else head


def _rehearse(
    asked: StrategyInput, evidence: Evidence, start: LinearHead, rehearsed: Examples
) -> LinearHead:
    """Every class weighs the same; old columns are pulled to where they were."""
    task = _task(asked, evidence, rehearsed)
    return heads.fit_columns(start, replace(task, balanced=True, anchored=_old(asked, evidence)))


def _aligned(head: LinearHead, old: NDArray[np.bool_]) -> LinearHead:
    """Scale the new columns to the mean norm of the old ones (WA, Zhao et al. 2020)."""
    norms = np.linalg.norm(head.weights, axis=0)
    if old.all() or not norms[~old].any():
        return head
    scale = np.where(old, 1.0, norms[old].mean() / norms[~old].mean()).astype(np.float32)
    return replace(head, weights=head.weights * scale, bias=head.bias * scale)


def _with_bias_layer(
    asked: StrategyInput, evidence: Evidence, start: LinearHead, rehearsed: Examples
) -> LinearHead:
    """Logits of new classes become αz + β, fitted on held-out exemplars (BiC, Wu et al. 2019)."""
    from scipy import optimize, special

    old = _old(asked, evidence)
    held = _held_for_bias(rehearsed)
    head = _rehearse(asked, evidence, start, rehearsed.where(~held))
    tested = rehearsed.where(held)
    logits = head.calibrated().logits(tested.vectors).astype(np.float64)
    columns = np.array([head.classes.index(name) for name in tested.labels])
    weights = 1.0 / np.bincount(columns, minlength=len(old))[columns]

    def loss(layer: NDArray[np.float64]) -> float:
        corrected = np.where(old, logits, layer[0] * logits + layer[1])
        given = special.log_softmax(corrected, axis=1)[np.arange(len(columns)), columns]
        return -float((weights * given).sum())

    alpha, beta = optimize.minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    scale = np.where(old, 1.0, alpha).astype(np.float32)
    shift = np.where(old, 0.0, beta * head.temperature).astype(np.float32)
    return replace(head, weights=head.weights * scale, bias=head.bias * scale + shift)


def _held_for_bias(examples: Examples) -> NDArray[np.bool_]:
    """The last of each class in the order of the hashes, a share of them."""
    held = np.zeros(len(examples), bool)
    for name in set(examples.labels):
        rows = [row for row, label in enumerate(examples.labels) if label == name]
        if len(rows) < LEAST_FOR_BIAS:
            raise UsageError(
                f"Expected at least {LEAST_FOR_BIAS} images a class for the bias layer (bic). "
                f"Received: {len(rows)} of {name!r}. Use --bias-correction wa."
            )
        rows.sort(key=examples.hashes.__getitem__)
        held[rows[: round(HELD_FOR_BIAS * len(rows))]] = True
    return held


def _task(
    asked: StrategyInput,
    evidence: Evidence,
    examples: Examples,
    free: NDArray[np.bool_] | None = None,
) -> Task:
    features = examples.vectors[:]
    if evidence.moments is None:
        frame = Standardisation.of_features(features)
    else:
        frame = Standardisation.of_moments(evidence.moments)
    if free is None:
        free = np.ones(len(asked.classes), bool)
    return Task(features, examples.labels, frame, free, asked.recipe.balanced)


def _old(asked: StrategyInput, evidence: Evidence) -> NDArray[np.bool_]:
    """(C,) which columns the parent has."""
    assert evidence.parent is not None
    return np.isin(np.array(asked.classes, object), evidence.parent.classes)


def _start(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    """The parent's head with an imprinted column for each new class."""
    assert evidence.parent is not None
    return grow(evidence.parent, asked.classes, evidence.new)


def _as_it_is(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    assert evidence.parent is not None
    return evidence.parent


UNCHANGED = Strategy("the head as it is", _as_it_is, keeps_temperature=True)
"""The head of the parent, for a round that changes nothing but the memory."""


ADOPTED = "adopted"
"""How round 1 records that its columns were trained elsewhere, where no strategy was used."""


_MOMENTS = Condition(
    lambda run: run.moments or not run.recipe.from_moments,
    "Expected a run with moments for {strategy}.",
    "a run with --memory none",
    "Use --strategy freeze-old or lwf, or give the old images with --old-data and "
    "--memory moments.",
)


_SOLVED_HEAD = Condition(
    lambda run: run.recipe.from_moments,
    "Expected a head that is solved from moments for {strategy}: "
    f"{', '.join(name for name, row in heads.HEADS.items() if row.solve is not None)}.",
    "head={run.recipe.head!r}",
    "Add --head lda, or use --strategy freeze-old, or joint with the old images.",
)


_ALL_OLD_IMAGES = Condition(
    lambda run: run.recipe.from_moments or run.old_images is OldImages.ALL,
    "Expected the features of all old images for {strategy}.",
    "a run that keeps {run.old_images} of them",
    "Give the old images with --old-data, keep them with --memory features, or use "
    "--strategy merge with --head lda.",
)


_NEW_IMAGES = Condition(
    lambda run: run.learns,
    "Expected new images for {strategy}.",
    "none",
    "Use --strategy merge, or joint with the old images.",
)


_OLD_IMAGES = Condition(
    lambda run: run.old_images is not OldImages.NONE or run.sample,
    "Expected old images for {strategy}.",
    "a run that keeps none",
    "Use a run with --memory exemplars or features, give them with --old-data, or unlabelled ones "
    "of the usual kind with --sample.",
)


_KNOWN_CLASSES = Condition(
    lambda run: run.begun,
    "Expected a run that knows classes for {strategy}.",
    "one that knows none",
    "Use --strategy merge or joint.",
)


_NEW_CLASSES = Condition(
    lambda run: run.grows,
    "Expected new classes for {strategy}.",
    "more images of known classes only, and their columns are frozen",
    "Use --strategy merge, or lwf where the run keeps no moments.",
)


STRATEGIES = {
    "merge": Strategy(
        "equals joint training, from moments alone",
        _anew,
        exact=True,
        from_moments=True,
        needs=(_MOMENTS, _SOLVED_HEAD),
    ),
    "joint": Strategy(
        "joint training, from the features of all images",
        _anew,
        exact=True,
        old_images=OldImages.ALL,
        needs=(_MOMENTS, _ALL_OLD_IMAGES),
    ),
    "freeze-old": Strategy(
        "old logits keep their bits",
        _freeze_old,
        generic=True,
        samples=True,
        keeps_temperature=True,
        needs=(_NEW_IMAGES, _KNOWN_CLASSES, _NEW_CLASSES),
    ),
    "lwf": Strategy(
        "distillation",
        _lwf,
        samples=True,
        options=frozenset({"distillation_weight", "distillation_temperature"}),
        needs=(_NEW_IMAGES, _KNOWN_CLASSES),
    ),
    "replay": Strategy(
        "with kept images",
        _replay,
        old_images=OldImages.SOME,
        samples=True,
        options=frozenset({"bias_correction"}),
        needs=(_NEW_IMAGES, _OLD_IMAGES, _KNOWN_CLASSES),
    ),
    "naive": Strategy("new images alone, forgets", _naive, needs=(_NEW_IMAGES, _KNOWN_CLASSES)),
}


EXACT = tuple(name for name, row in STRATEGIES.items() if row.exact)
"""The names of those that solve the head anew."""


def named(strategy: str | None) -> Strategy | None:
    """The row of a name; None where none was named.

    Raises:
        UsageError: the strategy is unknown.
    """
    if strategy is None:
        return None
    require_choice("a strategy", strategy, STRATEGIES)
    return STRATEGIES[strategy]


def solved_anew(recorded: str | None) -> bool:
    """Whether a round that records this strategy solved its head from all images of the run."""
    if recorded == ADOPTED:
        return False
    strategy = named(recorded)
    return strategy is None or strategy.exact


def choose(strategy: str | None, available: Available) -> str:
    """The name of the strategy to use; the best that is possible where none was asked for.

    Raises:
        UsageError: the strategy is unknown, or the run cannot offer what it needs.
    """
    named(strategy)
    if strategy is None:
        strategy = _default(available)
    for condition in STRATEGIES[strategy].needs:
        condition.require(strategy, available)
    return strategy


def require_options(strategy: str, options: StrategyOptions) -> None:
    """Raise UsageError for an option that this strategy does not have."""
    for owner, row in STRATEGIES.items():
        for name in sorted(row.options - STRATEGIES[strategy].options):
            if getattr(options, name) is not None:
                flag = name.replace("_", "-")
                raise UsageError(
                    f"Expected --{flag} with --strategy {owner} alone. Received: "
                    f"strategy={strategy!r}. Leave --{flag} out."
                )


def require_sampling(strategy: str) -> None:
    """Raise UsageError where a strategy has no use for a sample."""
    if not STRATEGIES[strategy].samples:
        able = ", ".join(name for name, row in STRATEGIES.items() if row.samples)
        raise UsageError(
            f"Expected --sample with --strategy {able}. Received: strategy={strategy!r}, which has "
            "no use for it. Leave --sample out."
        )


def _default(available: Available) -> str:
    if available.recipe.from_moments and available.moments:
        return "merge"
    return "joint" if available.old_images is OldImages.ALL else "freeze-old"
