"""--head auto: the head that is best in cross-validation."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from tlcli import evaluation, heads
from tlcli.config import HeadOptions, Progress
from tlcli.errors import DataError, UsageError
from tlcli.evaluation import HeldOutPredictions, ValidationScheme
from tlcli.extractor import PROJECTION_WIDTH
from tlcli.rounds.solution import Problem, Solution

NOTHING_TO_COMPARE_ON = (
    ", in two groups where they are grouped. Received: none that can be held out, to compare"
)
"""The middle of a message."""


@dataclass(frozen=True)
class Candidate:
    """A head that was tried."""

    head: str
    accuracy: float
    """In cross-validation."""
    mean_class_accuracy: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Choice:
    """The best head, its answers about images it has not learned, and what it was compared to."""

    problem: Problem
    answers: HeldOutPredictions
    candidates: tuple[Candidate, ...] = ()
    """The best first; empty where nothing was compared."""

    @cached_property
    def solution(self) -> Solution:
        """With the head, from all images."""
        return self.problem.solved()

    @property
    def table(self) -> tuple[dict[str, Any], ...]:
        """The candidates as `--json` lists them."""
        return tuple(asdict(candidate) for candidate in self.candidates)


def candidates(
    options: HeadOptions,
    labels: Sequence[str],
    all_features: bool,
    projected: bool | None,
    width: int,
) -> list[str]:
    """Names of the heads to choose from, the simplest first.

    Args:
        options: those that were asked for leave only heads that have them.
        labels: of all images; a head that needs more of a class than there are is left out.
        all_features: whether the features of all images will be known in later rounds too.
        projected: whether the run has a projection; None where that is still open: then one is
            tried where it can bring something, see `_worth_projecting`.
        width: of the features, before a projection.

    Raises:
        UsageError: no head has the options.
    """
    asked = {name for name, value in asdict(options).items() if value is not None} - {"head"}
    fewest = min(Counter(labels).values())
    open_to_it = _worth_projecting(width, len(labels)) if projected is None else projected
    names = [
        name
        for name, row in heads.HEADS.items()
        if (row.solve or all_features)
        and row.least_images <= fewest
        and asked <= row.options
        and (not row.projected or open_to_it)
        and (projected is not True or row.projected or row.projected_as is None)
    ]
    if not names:
        raise UsageError(
            f"Expected options that a head has. Received: {', '.join(sorted(asked))}. "
            "Leave them out with --head auto."
        )
    return names


def _worth_projecting(width: int, images: int) -> bool:
    """Whether a head behind a random projection may be the best.

    With fewer images than the projection is wide, or features that are as wide themselves, it was
    behind ridge on every set that was tried, and takes most of the time.
    """
    return width < PROJECTION_WIDTH <= images


def best_head(
    names: Sequence[str],
    posed: Callable[[str], Problem],
    scheme: ValidationScheme,
    old_too: bool,
    progress: Progress,
) -> Choice:
    """The head with the highest mean class accuracy; among equals the simplest.

    Args:
        names: of the heads, the simplest first.
        posed: what a head of this name is solved from.
        scheme: how images are held out.
        old_too: whether images of earlier rounds are held out too.
        progress: told the phase "choosing a head".

    Raises:
        DataError: no image can be held out.
    """
    tried: list[Choice] = []
    for done, name in enumerate(names):
        progress("choosing a head", done, len(names))
        start = time.perf_counter()
        problem = posed(name)
        answers = problem.held_out(scheme, old_too)
        if not len(answers.true):
            raise DataError(
                f"Expected at least two images of a class with --head auto{NOTHING_TO_COMPARE_ON} "
                f"heads on. Name a head: {heads.FOR_FEW} is right most often with few images."
            )
        seconds = round(time.perf_counter() - start, 3)
        figures = evaluation.accuracies(answers)
        tried.append(Choice(problem, answers, (Candidate(name, *figures, seconds),)))
    progress("choosing a head", len(names), len(names))
    tried.sort(key=lambda choice: -choice.candidates[0].mean_class_accuracy)
    listed = tuple(choice.candidates[0] for choice in tried)
    return Choice(tried[0].problem, tried[0].answers, listed)
