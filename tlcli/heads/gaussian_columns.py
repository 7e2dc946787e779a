"""Gaussian columns: new classes beside a head whose images are gone.

Symbols: D feature width, C classes of the head, φ a feature vector, W (D, C) and b (C,) the head,
z its logits, z̄ their mean over the classes, μ_c the mean of a new class, μ₀ the generic image,
Σ the covariance within classes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tlcli import gaussian, linalg, moments
from tlcli.features import Examples
from tlcli.heads import generic
from tlcli.heads.gradient import Standardisation, Task, fit_columns
from tlcli.heads.linear import Generic, LinearHead
from tlcli.moments import Moments

Float64 = NDArray[np.float64]

_REACH = 1.0
"""Half the distance, in leads of the head, between a new class and the generic image."""

_RIVAL = 0.5
"""Where their midpoint lies: this share of the lead that an old column has."""

_PULL = 0.3
"""How strongly columns are held to where they start while they are fitted to a sample."""

_UNIT = 0.1
"""Of a lead: the temperature at which columns are fitted, whatever that of the head is."""

_LEAST = float(np.finfo(np.float32).tiny)

_GRID_BITS = 16


def gaussian_columns(head: LinearHead, new: Examples, known: Moments, usual: Generic) -> LinearHead:
    """The head with a column for each class of `new`; the old columns keep their bits.

    A column is the log-likelihood ratio of its class against the generic image, laid on the mean
    of the old columns (a softmax is the same whatever column is added to all):

        w_c = s·a_c + w̄,  b_c = b̄ + t − s·a_cᵀ(μ_c + μ₀)/2,  a_c = Σ⁻¹(μ_c − μ₀).

    Where the columns w_c are those of lda this is lda, with Σ as far as it is known. s and t bring
    it to the scale of the old logits. An old column leads the mean by `usual.lead` at images of its
    own, and by r_c at images of a new class, whose rival it is. The ratio is laid so that its zero
    is `_RIVAL` of the way up to the mean of both, and a new class at its own mean `_REACH` times
    the lead above that; a class that is further from μ₀ than others, by the root of its distance.
    A head of one class has no lead: the ratio is left as it is.

    Args:
        head: C ≥ 1 classes, none of them in `new`.
        new: features of the new classes.
        known: moments that Σ is of, of all classes of `new` at least.
        usual: of the images that the head knows.
    """
    names = sorted(set(new.labels))
    means = gaussian.means(known)[[known.classes.index(name) for name in names]]
    away = (means - usual.mean).T
    directions = _solved(known, away)
    distances = (away * directions).sum(axis=0)
    labels = np.array(new.labels, object)
    rivals = np.array([generic.lead(head, new.where(labels == name).vectors) for name in names])
    unit = np.sqrt(distances * (linalg.row_sums(distances[None]) / len(names)))
    reach = 2 * _REACH * usual.lead if usual.lead > 0 else unit
    scale = reach / np.maximum(unit, _LEAST)
    middle = means.T / 2 + usual.mean[:, None] / 2
    ratios = -scale * (directions * middle).sum(axis=0)
    weights = scale * directions + _mean(head.weights.T)[:, None]
    bias = ratios + _RIVAL * (usual.lead + rivals) / 2 + float(_mean(head.bias[:, None])[0])
    return replace(
        head,
        classes=(*head.classes, *names),
        weights=np.hstack([head.weights, weights.astype(np.float32)]),
        bias=np.concatenate([head.bias, bias.astype(np.float32)]),
    )


def _solved(known: Moments, right: Float64) -> Float64:
    """Σ⁻¹ right (D, k)."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        found = gaussian.solved(known, right)
    assert found is not None
    return found


def _mean(rows: NDArray[np.float32]) -> Float64:
    """Over the rows (C, D), added one after the other."""
    return np.asarray(linalg.row_sums(rows.T.astype(np.float64)) / len(rows))


def moments_of(examples: Sequence[Examples]) -> Moments:
    """The moments of features for which there is no grid: one is laid to the largest of them."""
    largest = max(float(np.abs(part.vectors[:]).max(initial=0.0)) for part in examples)
    bits = _GRID_BITS - int(np.frexp(largest)[1])
    found = [moments.of(part.vectors, part.labels, "", bits) for part in examples]
    total = found[0]
    for part in found[1:]:
        total = moments.add(total, part)
    return total


def against(
    head: LinearHead, new: Examples, others: Examples, columns: int, lead: float
) -> LinearHead:
    """The head with its last columns fitted to tell new images from others.

    Cross-entropy in which every class weighs the same, held to the columns as they are: a few
    images say where a column is wrong, and not what it is.

    Args:
        head: with all columns.
        new: images of the classes of the last columns.
        others: images of the other classes, as they are called or taken to be.
        columns: how many columns are fitted.
        lead: of the head, see `Generic`.
    """
    examples = others.joined(new).by_hash()
    features = examples.vectors[:]
    free = np.arange(len(head.classes)) >= len(head.classes) - columns
    frame = Standardisation.of_features(features)
    task = Task(features, examples.labels, frame, free, balanced=True, anchored=free, pull=_PULL)
    fitted = fit_columns(replace(head, temperature=max(_UNIT * lead, _LEAST)), task)
    return replace(fitted, temperature=head.temperature)
