"""What a comparison found: results of folds → figures with their spread."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tlcli.commands.compare.methods import LeftOut, Method
from tlcli.commands.compare.schedule import Schedule
from tlcli.commands.compare.trials import Result
from tlcli.images import Skipped
from tlcli.strategies import OldImages


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over the folds in which a figure could be measured."""

    mean: float
    sd: float

    @staticmethod
    def of(values: Sequence[float | None]) -> "Spread | None":
        """None where it was measured in no fold; one fold alone has no deviation, 0."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        sd = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
        return Spread(float(np.mean(known)), sd)


@dataclass(frozen=True)
class RoundSpread:
    """Accuracy after one round."""

    round: int
    accuracy: Spread | None
    """On all classes so far."""
    accuracy_by_introduction: dict[int, Spread | None]
    """On the classes that came in a round."""


@dataclass(frozen=True)
class SeenBy:
    """What the images were seen by, and what that costs."""

    backbone: str
    layers: str
    views: int
    options: str
    """Of `tlcli pretrain`, for layers and views that are not as usual."""
    width: int
    """D; heads and what a run keeps grow with it."""
    milliseconds_per_image: float | None
    """Of its features, decoding included; None where all were cached."""


@dataclass(frozen=True)
class MethodFigures:
    """How one method fared with one backbone."""

    seen_by: SeenBy
    strategy: str
    head: str
    exact: bool
    needs_old_images: OldImages
    accuracy: Spread | None
    """After the last round, as the next."""
    mean_class_accuracy: Spread | None
    average_incremental_accuracy: Spread | None
    forgetting: Spread | None
    """None with a single round."""
    excess_forgetting: Spread | None
    """Beyond that of joint training of the same head."""
    seconds: float
    """Of solving all rounds' heads, mean over the folds."""
    bytes_kept: int
    """Between rounds, after the last; mean over the folds."""
    rounds: tuple[RoundSpread, ...]
    incremental_by_fold: tuple[float | None, ...]
    """Average incremental accuracy of each fold."""

    @staticmethod
    def of(
        seen_by: SeenBy, method: Method, results: Sequence[Result], reference: Sequence[Result]
    ) -> "MethodFigures":
        """From the results of all folds, and those of joint training of the same head."""
        reports = [result.report for result in results]
        incremental = tuple(report.average_incremental_accuracy for report in reports)
        return MethodFigures(
            seen_by,
            method.strategy,
            method.head,
            method.exact,
            method.old_images,
            Spread.of([report.figures.accuracy for report in reports]),
            Spread.of([report.figures.mean_class_accuracy for report in reports]),
            Spread.of(incremental),
            Spread.of([report.forgetting for report in reports]),
            Spread.of([_excess(*pair) for pair in zip(results, reference, strict=True)]),
            round(float(np.mean([result.seconds for result in results])), 3),
            round(float(np.mean([result.bytes_kept for result in results]))),
            tuple(_round_spread(results, place) for place in range(len(reports[0].rounds))),
            incremental,
        )

    @property
    def rank(self) -> tuple[float, int, float]:
        """Sorts the best first; of equals the one with fewer old images, then the faster."""
        incremental = self.average_incremental_accuracy
        needs = list(OldImages).index(self.needs_old_images)
        return -(incremental.mean if incremental else 0.0), needs, self.seconds

    def to_json(self) -> dict[str, Any]:
        """An entry of `methods` in `compare --json`."""
        content = asdict(self)
        del content["incremental_by_fold"]
        return {**content.pop("seen_by"), **content}

    def chosen(self, best: "MethodFigures") -> dict[str, Any]:
        """What `--json` says of a method that is recommended."""
        pairs = zip(best.incremental_by_fold, self.incremental_by_fold, strict=True)
        behind = Spread.of([a - b for a, b in pairs if a is not None and b is not None])
        return {
            "backbone": self.seen_by.backbone,
            "layers": self.seen_by.layers,
            "views": self.seen_by.views,
            "options": self.seen_by.options,
            "strategy": self.strategy,
            "head": self.head,
            "average_incremental_accuracy": asdict(self)["average_incremental_accuracy"],
            "behind_best": asdict(behind) if behind else None,
        }


def _excess(result: Result, reference: Result) -> float | None:
    own, joint = result.report.forgetting, reference.report.forgetting
    return None if own is None or joint is None else own - joint


def _round_spread(results: Sequence[Result], place: int) -> RoundSpread:
    entries = [result.report.rounds[place] for result in results]
    introductions = range(1, entries[0].round + 1)
    return RoundSpread(
        entries[0].round,
        Spread.of([entry.accuracy for entry in entries]),
        {
            number: Spread.of([entry.accuracy_by_introduction.get(number) for entry in entries])
            for number in introductions
        },
    )


@dataclass(frozen=True)
class Comparison:
    """What `compare` answers."""

    data: str
    images: int
    skipped: tuple[Skipped, ...]
    rounds: Schedule
    folds: int
    exemplars_per_class: int
    methods: tuple[MethodFigures, ...]
    """The best first."""
    left_out: tuple[LeftOut, ...]
    seconds: dict[str, float]

    @property
    def best(self) -> MethodFigures:
        """By average incremental accuracy."""
        return self.methods[0]

    @property
    def best_without_old_images(self) -> MethodFigures | None:
        """The best of those that need no old image; None where none was tried."""
        rest = (entry for entry in self.methods if entry.needs_old_images is OldImages.NONE)
        return next(rest, None)

    def to_json(self) -> dict[str, Any]:
        """The object that `compare --json` prints."""
        without = self.best_without_old_images
        return {
            "data": self.data,
            "images": self.images,
            "skipped": [entry.to_json() for entry in self.skipped],
            "classes": [name for names in self.rounds for name in names],
            "rounds": [list(names) for names in self.rounds],
            "folds": self.folds,
            "exemplars_per_class": self.exemplars_per_class,
            "methods": [entry.to_json() for entry in self.methods],
            "left_out": [asdict(entry) for entry in self.left_out],
            "best": self.best.chosen(self.best),
            "best_without_old_images": without.chosen(self.best) if without else None,
            "seconds": self.seconds,
        }
