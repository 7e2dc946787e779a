"""C of logistic regression: what an error costs against the size of the weights.

Symbols: n images, D feature width, C classes, or the cost where it is said.
"""

import logging
import math
from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tlcli import images
from tlcli.config import AUTO
from tlcli.errors import UsageError
from tlcli.features import Examples
from tlcli.heads.calibration import temperature
from tlcli.heads.descent import Size, watch
from tlcli.heads.gradient import Standardisation, Task, fit_columns, nothing_learned, path
from tlcli.heads.linear import LinearHead

log = logging.getLogger(__name__)

COSTS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""C that are tried, rising: with more, features as wide as those of backbones are overfitted."""

USUAL = 1.0
"""Where nothing can be held out to choose by."""

_FOLDS = 3

_MOST_PRODUCTS = 3 * 10**7
"""n·D·C of the images that are compared on: with more of them it takes minutes."""

Integers = NDArray[np.integer]


def require(value: str) -> None:
    """Raise UsageError unless `value` is `auto` or a positive number."""
    if value == AUTO:
        return
    try:
        cost = float(value)
    except ValueError:
        cost = math.nan
    if not 0 < cost < math.inf:
        raise UsageError(
            f"Expected C: auto, or a positive number. Received: c={value!r}. Leave --c out."
        )


def softmax(examples: Examples, asked: str = AUTO, balanced: bool = False) -> LinearHead:
    """Multinomial logistic regression with C as in `priced`."""
    features, classes = examples.vectors[:], sorted(set(examples.labels))
    free = np.ones(len(classes), bool)
    frame = Standardisation.of_features(features)
    start = nothing_learned(classes, features.shape[1])
    task = Task(features, examples.labels, frame, free, balanced)
    return fit_columns(start, priced(task, start, examples, asked))


def priced(task: Task, start: LinearHead, examples: Examples, asked: str = AUTO) -> Task:
    """The task with C as it was asked for; with `auto` the one that cross-validation prefers.

    C are tried from the smallest of `COSTS` on until the cross-entropy on images that were held
    out rises. It is measured at the temperature that suits it best, as a round's head gets one
    too: otherwise large C win that make a head surer, not more often right. Of very many images
    some are taken, the same number of each class, chosen by their hashes.

    Args:
        task: what columns are fitted to.
        start: where they start.
        examples: the images of the task.
        asked: see `require`.
    """
    from threadpoolctl import threadpool_limits

    if asked == AUTO:
        with threadpool_limits(limits=1):
            cost = _chosen(task, start, examples)
    else:
        cost = float(asked)
    return replace(task, pull=1.0 / (cost * max(len(examples), 1)))


def _chosen(task: Task, start: LinearHead, examples: Examples) -> float:
    some = _some(examples)
    fold = images.folds(some.hashes, some.labels, _FOLDS, some.groups)
    return _best(task, start, some, fold) if _comparable(some, fold) else USUAL


def _some(examples: Examples) -> Examples:
    """At most so many images of each class that comparing on them takes seconds."""
    counts = Counter(examples.labels)
    width = max(examples.vectors.shape[1], 1)
    most = max(_MOST_PRODUCTS // (width * len(counts) ** 2), _FOLDS) if counts else 0
    if max(counts.values(), default=0) <= most:
        return examples
    return examples.take(sorted(images.some_of_each(examples.hashes, examples.labels, most)))


def _comparable(some: Examples, fold: Integers) -> bool:
    """Whether there is anything to choose C by; says so where there is not."""
    counts = Counter(some.labels)
    if len(counts) < 2:
        return False
    size = Size(len(some), some.vectors.shape[1], len(counts))
    many = max(counts.values()) >= _FOLDS and len(set(fold) - {images.TRAINED_ONLY}) > 1
    if many and not size.large:
        return True
    why = (
        f"{len(counts)} classes are too many" if many else f"fewer than {_FOLDS} images of a class"
    )
    watch().warn_once("cost", f"C is {USUAL:g}: {why} to choose it by cross-validation")
    return False


def _best(task: Task, start: LinearHead, some: Examples, fold: Integers) -> float:
    """The last of `COSTS` before the loss rises."""
    vectors, names = some.vectors[:], np.array(some.labels, object)
    place = {name: column for column, name in enumerate(start.classes)}
    columns = np.array([place[name] for name in some.labels])
    weights = 1.0 / np.bincount(columns)[columns] if task.balanced else np.ones(len(columns))
    parts = [_held(columns, fold == number) for number in range(_FOLDS)]
    tested = np.concatenate([np.flatnonzero(held) for held in parts])
    paths = [
        path(start, replace(task, features=vectors[~held], labels=names[~held].tolist()), COSTS)
        for held in parts
    ]
    best, lowest = USUAL, math.inf
    for cost, found in zip(COSTS, zip(*paths, strict=True), strict=True):
        answers = zip(parts, found, strict=True)
        logits = np.concatenate(
            [vectors[held] @ head.weights + head.bias for held, head in answers]
        )
        loss = _loss(logits.astype(np.float64), columns[tested], weights[tested])
        if loss > lowest:
            break
        best, lowest = cost, loss
    log.info("C = %g, by cross-validation on %d images", best, len(tested))
    return best


def _held(columns: Integers, held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The images of a fold whose class others have, too."""
    return held & np.isin(columns, columns[~held])


def _loss(logits: NDArray[np.float64], columns: Integers, weights: NDArray[np.float64]) -> float:
    """The cross-entropy at the best temperature."""
    from scipy import special

    given = special.log_softmax(logits / temperature(logits, columns), axis=1)
    return -float(weights @ given[np.arange(len(columns)), columns] / weights.sum())
