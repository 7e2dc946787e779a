"""What each strategy makes of the evidence: a head."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tlcli import heads, memory
from tlcli.config import AUTO, StrategyOptions
from tlcli.errors import UsageError
from tlcli.features import Examples
from tlcli.heads import (
    Distillation,
    Evidence,
    Fit,
    LinearHead,
    Recipe,
    Standardisation,
    Task,
    gaussian_columns,
    generic,
)
from tlcli.heads.imprinting import grow
from tlcli.memory.setting import DEFAULT_EXEMPLARS

DISTILLATION_TEMPERATURE = 2.0

DISTILLATION_COST = 10.0
"""C of lwf times the width of the features. New images alone cannot tell what a C costs the old
classes: cross-validation on them takes the largest, with which many old answers are lost."""

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


def first(recipe: Recipe) -> Fit:
    """Round 1, or a head solved anew: columns in sorted order of the classes."""

    def fit(evidence: Evidence) -> LinearHead:
        if recipe.from_moments and evidence.span is not None:
            return evidence.span.solved(recipe.solve)
        if recipe.from_moments:
            assert evidence.moments is not None
            return generic.remembering(recipe.solve(evidence.moments), evidence)
        return generic.remembering(recipe.fit(evidence.old.joined(evidence.new)), evidence)

    return fit


def adopted(head: LinearHead) -> Fit:
    """Round 1 of a classifier that was trained elsewhere: its columns, whatever the evidence."""
    return lambda evidence: head


def anew(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    """A head that is solved from everything."""
    return first(asked.recipe)(evidence)


def freeze_old(asked: StrategyInput, evidence: Evidence) -> LinearHead:
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


def naive(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    """Cross-entropy on the new images alone."""
    start, task = _start(asked, evidence), _task(asked, evidence, evidence.new)
    return _fitted(asked, start, task, evidence.new)


def _fitted(asked: StrategyInput, start: LinearHead, task: Task, examples: Examples) -> LinearHead:
    """The columns fitted, with C as in the recipe."""
    return heads.fit_columns(start, heads.priced(task, start, examples, asked.recipe.c))


def lwf(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    """Cross-entropy on the new images, the old answers held (Li & Hoiem 2016)."""
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
    usual = f"{DISTILLATION_COST / len(start.weights):g}"
    cost = usual if asked.recipe.c == AUTO else asked.recipe.c
    return heads.fit_columns(start, heads.priced(task, start, images, cost))


def replay(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    """Cross-entropy on the new images and the exemplars."""
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
    task = replace(task, balanced=True, anchored=_old(asked, evidence))
    return _fitted(asked, start, task, rehearsed)


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
    """The first of each class in the order of the hashes, a share of them."""
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


def _task(asked: StrategyInput, evidence: Evidence, examples: Examples) -> Task:
    """Every column may move."""
    features = examples.vectors[:]
    if evidence.moments is None:
        frame = Standardisation.of_features(features)
    else:
        frame = Standardisation.of_moments(evidence.moments)
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


def as_it_is(asked: StrategyInput, evidence: Evidence) -> LinearHead:
    """The head of the parent."""
    assert evidence.parent is not None
    return evidence.parent
