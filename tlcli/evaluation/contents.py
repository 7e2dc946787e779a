"""What a report consists of."""

from dataclasses import asdict, dataclass, field
from typing import Any

from tlcli.evaluation.gates import Gate
from tlcli.evaluation.intervals import LEVEL, Interval
from tlcli.evaluation.outcomes import Figures
from tlcli.evaluation.paired import Comparison
from tlcli.heads import LinearHead, UnitedHead
from tlcli.images import Skipped
from tlcli.moments import Rows


@dataclass(frozen=True, eq=False)
class RoundHead:
    """One round's head, and the test images in the feature space of that round's backbone."""

    number: int
    head: LinearHead | UnitedHead
    vectors: Rows
    """(n, D) the same test images for every round."""


@dataclass(frozen=True)
class ClassFigures:
    """How one class fares; the figures are None where the test holds no image of it."""

    name: str
    introduced_in_round: int
    images: int
    accuracy: float | None
    """Share of its images that are right, also called recall."""
    precision: float | None
    f1: float | None

    def to_json(self) -> dict[str, Any]:
        """An entry of `per_class`."""
        content = {key: value for key, value in vars(self).items() if key != "name"}
        return {"class": self.name} | content | {"recall": self.accuracy}


@dataclass(frozen=True)
class RoundFigures:
    """How one round's head fares on the test images of the classes that it knew."""

    round: int
    accuracy: float | None
    accuracy_by_introduction: dict[int, float | None]
    more: dict[str, Any] = field(default_factory=dict)
    """Its other figures, where they were asked for."""

    def to_json(self) -> dict[str, Any]:
        """An entry of `rounds`."""
        by_number = {str(number): value for number, value in self.accuracy_by_introduction.items()}
        return {
            "round": self.round,
            "accuracy": self.accuracy,
            "accuracy_by_introduction": by_number,
            **self.more,
        }


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix that is not zero."""

    true: str
    predicted: str
    images: int

    def to_json(self) -> dict[str, Any]:
        """An entry of `confusion`."""
        return {"class": self.true, "predicted": self.predicted, "images": self.images}


@dataclass(frozen=True)
class Bin:
    """The images whose confidence falls between two bounds."""

    low: float
    high: float
    images: int
    confidence: float
    """Their mean."""
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """An entry of `reliability`."""
        rest = {key: value for key, value in vars(self).items() if key not in ("low", "high")}
        return {"from": self.low, "to": self.high} | rest


@dataclass(frozen=True)
class Mistake:
    """An image that was answered wrongly."""

    row: int
    """Which of the n images."""
    true: str
    predicted: str
    probability: float
    """Of the answer."""
    given: float
    """The probability of the true class."""

    def to_json(self, path: str) -> dict[str, Any]:
        """An entry of `mistakes`."""
        return {
            "path": path,
            "class": self.true,
            "predicted": self.predicted,
            "probability": self.probability,
            "probability_of_class": self.given,
        }


@dataclass(frozen=True)
class Learned:
    """How many of the given images a run has learned."""

    left_out: int = 0
    included: int = 0
    """That were measured all the same, so that the figures look better than they are."""


@dataclass(frozen=True)
class Beside:
    """Another way to answer than the head, on images of the classes that it knows."""

    by: str
    images: int
    accuracy: float
    shared_images: int
    """Those of classes that the head knows too."""
    shared_accuracy: float | None
    """On these; None where there is none."""
    head_accuracy: float | None
    """Of the head on the same."""
    left_out: int
    """Images that the index holds, which would find themselves."""


@dataclass(frozen=True)
class Report:
    """Everything that `evaluate` measures."""

    run: str
    round: int
    images: int
    skipped: tuple[Skipped, ...]
    figures: Figures
    per_class: tuple[ClassFigures, ...]
    confusion: tuple[Cell, ...]
    reliability: tuple[Bin, ...]
    mistakes: tuple[Mistake, ...]
    """The worst first."""
    rounds: tuple[RoundFigures, ...]
    average_incremental_accuracy: float | None
    forgetting: float | None
    learned: Learned = Learned()
    intervals: dict[str, Interval | None] = field(default_factory=dict)
    against: Comparison | None = None
    beside: "Beside | None" = None
    gates: tuple[Gate, ...] = ()
    paths: tuple[str, ...] = ()
    """Of the n images."""
    card: dict[str, Any] = field(default_factory=dict)
    """What was measured on what: the round and its configuration, the data and its fingerprint."""

    def to_json(self) -> dict[str, Any]:
        """The object that `evaluate --json` prints."""
        return {
            "run": self.run,
            "round": self.round,
            "images": self.images,
            "learned": asdict(self.learned),
            "skipped": [vars(entry) for entry in self.skipped],
            **asdict(self.figures),
            "intervals": {"level": LEVEL, **self.intervals},
            "per_class": [entry.to_json() for entry in self.per_class],
            "confusion": [entry.to_json() for entry in self.confusion],
            "reliability": [entry.to_json() for entry in self.reliability],
            "mistakes": [entry.to_json(self.paths[entry.row]) for entry in self.mistakes],
            "rounds": [entry.to_json() for entry in self.rounds],
            "average_incremental_accuracy": self.average_incremental_accuracy,
            "forgetting": self.forgetting,
            "against": None if self.against is None else asdict(self.against),
            "beside": None if self.beside is None else asdict(self.beside),
            "gates": [entry.to_json() for entry in self.gates],
            "card": self.card,
        }
