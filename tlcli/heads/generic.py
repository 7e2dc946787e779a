"""The generic image of a head: what its classes look like on average, and how sure it is of them.

Symbols: n images, D feature width, C classes, φ a feature vector, z the logits of an image.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tlcli import gaussian, linalg
from tlcli.features import Examples
from tlcli.heads.evidence import Evidence
from tlcli.heads.linear import Generic, LinearHead
from tlcli.moments import Moments, Rows

Float64 = NDArray[np.float64]

_BITS = 20
"""Of a lead: more would say nothing, and differ between processors."""

_BLOCK_ROWS = 2048

_EXPECTED_IMAGES = 100
"""How many images the mean weighs that a network expects: that of photographs like the new ones is
another one, and each class tells a little of it."""

_OWN = 1.2
"""How much further the highest logit leads at images of the head's classes than at others."""


def lead(head: LinearHead, features: Rows) -> float:
    """How far the highest logit of an image is above the mean of its logits, on average.

    Args:
        head: of at least one class.
        features: (n, D), n ≥ 1.
    """
    logits = head.logits(features).astype(np.float64)
    above = logits.max(axis=1) - linalg.row_sums(logits) / logits.shape[1]
    return float(linalg.rounded(np.float64(above.sum() / len(above)), _BITS))


def of_features(head: LinearHead, features: Rows) -> Generic:
    """What a head makes of images (n, D) of the kind that it knows."""
    return Generic(_sum(features) / len(features), len(features), lead(head, features))


def of_moments(head: LinearHead, moments: Moments) -> Generic:
    """What a head makes of the classes of these moments, at their means."""
    means = gaussian.means(moments).astype(np.float32)
    return Generic(gaussian.mean(moments), moments.images, lead(head, means))


def remembering(head: LinearHead, evidence: Evidence) -> LinearHead:
    """A head that was solved from all images so far, with what they look like on average."""
    if evidence.moments is not None and evidence.moments.images:
        return replace(head, generic=of_moments(head, evidence.moments))
    images = evidence.old.joined(evidence.new)
    return replace(head, generic=of_features(head, images.vectors)) if len(images) else head


def expected(mean: Float64) -> Generic:
    """What a network expects of its images, of which none was seen."""
    return Generic(mean, _EXPECTED_IMAGES, lead=0.0, expected=_EXPECTED_IMAGES)


def joined(generic: Generic, head: LinearHead, examples: Examples) -> Generic:
    """With the images of a round among those that mean and lead are of.

    Args:
        generic: as it was.
        head: knows the classes of the images; does not where the lead is a guess.
        examples: of the round.
    """
    if not len(examples):
        return generic
    count = len(examples)
    images, seen = generic.images + count, generic.images - generic.expected + count
    mean = (generic.mean * generic.images + _sum(examples.vectors)) / images
    own = _OWN if generic.expected else 1.0
    more = (own * lead(head, examples.vectors) - generic.lead) * count / seen
    found = float(linalg.rounded(np.float64(generic.lead + more), _BITS))
    return replace(generic, mean=mean, images=images, lead=found)


def beside(head: LinearHead, new: Examples) -> Generic:
    """What the images of a head look like on average, as far as new images tell more of it."""
    usual = head.generic or of_features(head, new.vectors)
    return joined(usual, head, new) if usual.expected else usual


def _sum(features: Rows) -> Float64:
    """Σ φ, (D,): one image after the other, the same on every processor."""
    total = np.zeros(features.shape[1])
    for start in range(0, len(features), _BLOCK_ROWS):
        for row in features[start : start + _BLOCK_ROWS]:
            total += row
    return total
