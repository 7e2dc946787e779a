"""How well images of one class find each other: recall and precision of ranked neighbours.

Every image is a question to all others; one without another of its class asks nothing, but may be
a wrong answer.

Recall@k is the share of questions with an image of their class among the k nearest. MAP@R is the
mean over questions of (1/R) Σ_{i≤R} P(i)·rel(i), with R the other images of the class and P(i) the
precision among the i nearest.

Source: Musgrave, Belongie & Lim 2020, "A Metric Learning Reality Check", section 3.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.evaluation.intervals import Interval, percentiles, resamples
from tlcli.features import unit_rows

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Labels = NDArray[np.object_]
Rows = NDArray[np.intp]

DEPTHS = (1, 2, 4, 8)
"""k of Recall@k."""

DRAWS = 20
"""Times that a few images of each class are drawn."""

FIVE = 5
"""Of each class, beside one."""

_BLOCK = 512
"""Questions that are asked at once."""


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % bootstrap interval."""

    value: float
    interval: Interval

    @staticmethod
    def of(values: Float64) -> "Figure":
        """Of n ≥ 1 values."""
        means = [float(weights @ values / len(values)) for weights in resamples(len(values))]
        return Figure(float(values.mean()), percentiles(means))


@dataclass(frozen=True, eq=False)
class Answers:
    """What one kind of descriptor answers to q questions."""

    found: dict[int, Float64]
    """k → (q,) 1 where an image of the class is among the k nearest, else 0."""
    precision: Float64
    """(q,) average precision at R."""

    @property
    def measured(self) -> tuple[float, float]:
        """MAP@R and Recall@1."""
        return float(self.precision.mean()), float(self.found[1].mean())


@dataclass(frozen=True)
class Ranking:
    """The figures of one kind of descriptor."""

    descriptor: str
    width: int
    recall: dict[int, Figure]
    """k → Recall@k."""
    map_at_r: Figure
    one_shot: Figure
    """Accuracy, the mean over classes, where one image of each class is known."""
    five_shot: Figure | None
    """The same with five; None where no class has more."""

    def to_json(self) -> dict[str, Any]:
        """An entry of `descriptors`."""
        recall = {f"recall_at_{k}": asdict(figure) for k, figure in self.recall.items()}
        rest = {
            "map_at_r": asdict(self.map_at_r),
            "one_shot": asdict(self.one_shot),
            "five_shot": asdict(self.five_shot) if self.five_shot else None,
        }
        return {"descriptor": self.descriptor, "width": self.width} | recall | rest


@dataclass(frozen=True)
class Gain:
    """How much more one kind of descriptor finds than another, on the same questions."""

    descriptor: str
    than: str
    recall_at_1: Figure
    map_at_r: Figure
    one_shot: Figure
    five_shot: Figure | None


@dataclass(frozen=True, eq=False)
class Measured:
    """One kind of descriptor of some images."""

    descriptor: str
    width: int
    answers: Answers
    one_shot: Float64
    """See `few_shot`."""
    five_shot: Float64 | None
    """None where no class has more than five images."""

    @staticmethod
    def of(descriptor: str, rows: Float32, labels: Sequence[str]) -> "Measured":
        """Rows (n, M) of length 1 of images of at least two classes, one of which has two."""
        enough = max(Counter(labels).values()) > FIVE
        return Measured(
            descriptor,
            rows.shape[1],
            answers(rows, labels),
            few_shot(rows, labels, 1),
            few_shot(rows, labels, FIVE) if enough else None,
        )

    @property
    def ranking(self) -> Ranking:
        """Its figures."""
        recall = {k: Figure.of(values) for k, values in self.answers.found.items()}
        precision, shot = Figure.of(self.answers.precision), Figure.of(self.one_shot)
        five = None if self.five_shot is None else Figure.of(self.five_shot)
        return Ranking(self.descriptor, self.width, recall, precision, shot, five)

    def over(self, other: "Measured") -> Gain:
        """The difference from another kind of the same images, question by question."""
        five, others = self.five_shot, other.five_shot
        return Gain(
            self.descriptor,
            other.descriptor,
            Figure.of(self.answers.found[1] - other.answers.found[1]),
            Figure.of(self.answers.precision - other.answers.precision),
            Figure.of(self.one_shot - other.one_shot),
            None if five is None or others is None else Figure.of(five - others),
        )


def answers(descriptors: Float32, labels: Sequence[str]) -> Answers:
    """What the images answer each other; images are descriptors (n, M) of length 1."""
    own = np.array(labels, object)
    others = _others(own)
    hits: dict[int, list[NDArray[np.bool_]]] = {k: [] for k in DEPTHS}
    precision: list[float] = []
    depth = min(max(int(others.max()), *DEPTHS), len(own) - 1)
    asking = np.flatnonzero(others)
    for rows, right in _ranked(descriptors, own, asking, depth):
        for k in DEPTHS:
            hits[k].append(np.asarray(right[:, :k].any(axis=1)))
        precision += [_precision(hit[:n]) for hit, n in zip(right, others[rows], strict=True)]
    return Answers(
        {k: np.concatenate(rows).astype(np.float64) for k, rows in hits.items()},
        np.array(precision),
    )


def _others(labels: Labels) -> NDArray[np.int64]:
    """(n,) how many other images are of the class of each."""
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(counts[place] - 1, np.int64)


def _ranked(
    descriptors: Float32, labels: Labels, asking: Rows, depth: int
) -> Iterator[tuple[Rows, NDArray[np.bool_]]]:
    """Questions, and (q, depth) whether their nearest images are of their class."""
    for start in range(0, len(asking), _BLOCK):
        rows = asking[start : start + _BLOCK]
        similar = descriptors[rows] @ descriptors.T
        similar[np.arange(len(rows)), rows] = -np.inf
        near = np.argpartition(-similar, depth - 1, axis=1)[:, :depth]
        order = np.argsort(-np.take_along_axis(similar, near, axis=1), axis=1, kind="stable")
        near = np.take_along_axis(near, order, axis=1)
        yield rows, labels[near] == labels[rows][:, None]


def _precision(right: NDArray[np.bool_]) -> float:
    """(1/R) Σ P(i)·rel(i) of the R nearest."""
    places = np.arange(1, len(right) + 1)
    return float((np.cumsum(right) / places * right).sum() / len(right))


def few_shot(descriptors: Float32, labels: Sequence[str], count: int) -> Float64:
    """(DRAWS,) the accuracy, mean over classes, where `count` images of each class are known.

    An image is of the class whose known images have the nearest mean by direction. Always the same
    images are drawn; a class that has no more than these is known, and is not asked for.
    """
    own = np.array(labels, object)
    members = {name: np.flatnonzero(own == name) for name in sorted(set(labels))}
    random = np.random.default_rng(0)
    return np.array([_one_draw(descriptors, own, members, count, random) for _ in range(DRAWS)])


def _one_draw(
    descriptors: Float32,
    labels: Labels,
    members: dict[str, Rows],
    count: int,
    random: np.random.Generator,
) -> float:
    known = [_drawn(rows, count, random) for rows in members.values()]
    means = unit_rows(np.stack([descriptors[rows].mean(axis=0) for rows in known]))
    said = np.array(list(members), object)[(descriptors @ means.T).argmax(axis=1)]
    right = said == labels
    right[np.concatenate(known)] = False
    shares = [
        right[rows].sum() / (len(rows) - count) for rows in members.values() if len(rows) > count
    ]
    return float(np.mean(shares))


def _drawn(rows: Rows, count: int, random: np.random.Generator) -> Rows:
    """Some of the rows, or all where there are no more."""
    left, drawn = rows, list[int]()
    while len(left) and len(drawn) < count:
        drawn.append(random.choice(left))
        left = left[left != drawn[-1]]
    return np.array(drawn, np.intp)
