"""The rounds in memory: every method learns and is tested on the same images."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tlcli import evaluation, heads, memory, moments, strategies
from tlcli.commands.compare.methods import Method
from tlcli.commands.compare.schedule import Schedule
from tlcli.config import StrategyOptions
from tlcli.evaluation import Report, RoundHead
from tlcli.extractor import PROJECTION_WIDTH, Extractor
from tlcli.features import Examples
from tlcli.heads import Evidence, Fit, LinearHead, Recipe
from tlcli.manifest import RegisteredClass
from tlcli.moments import Moments, Rows
from tlcli.strategies import OldImages, StrategyInput

Solved = Callable[[], None]
"""Called after each head."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images to learn, and others to test; features of the backbone."""

    train: Examples
    test: Examples


@dataclass(frozen=True)
class Result:
    """How one method fared on one split."""

    report: Report
    seconds: float
    """Of solving all heads."""
    bytes_kept: int
    """Between rounds, after the last."""


@dataclass(eq=False)
class _Course:
    """One method on its way through the rounds."""

    method: Method
    heads: list[LinearHead] = field(default_factory=list)
    """One a round."""
    seconds: float = 0.0

    def fit(self, classes: tuple[str, ...], exemplars: int) -> Fit:
        """Of the next round."""
        recipe = Recipe(self.method.head)
        if not self.heads:
            return strategies.first(recipe)
        options = StrategyOptions(strategy=self.method.strategy)
        told = StrategyInput(recipe, classes, options, exemplars)
        return strategies.following(strategies.STRATEGIES[self.method.strategy], told)

    @property
    def needs_temperature(self) -> bool:
        """Whether the next head is made from this round's probabilities, which it has to fit."""
        row = strategies.STRATEGIES[self.method.strategy]
        return not row.exact and not (self.heads and row.keeps_temperature)


@dataclass(eq=False)
class _Memory:
    """What the rounds so far have left, in one space of features."""

    extractor: Extractor
    moments: Moments
    learned: Examples
    """All images; of the backbone, as the exemplars."""
    exemplars: Examples

    @staticmethod
    def of(extractor: Extractor) -> "_Memory":
        nothing = extractor.no_examples()
        return _Memory(extractor, extractor.empty_moments(), nothing, nothing)

    def known(self, new: Examples, course: _Course) -> Evidence:
        """What a method may use in the next round; `moments` hold that round already."""
        old = {
            OldImages.NONE: self.extractor.no_examples(),
            OldImages.SOME: self.exemplars,
            OldImages.ALL: self.learned,
        }
        project = self.extractor.project
        parent = course.heads[-1] if course.heads else None
        return Evidence(self.moments, project(new), project(old[course.method.old_images]), parent)

    def add_moments(self, new: Examples) -> None:
        self.moments = moments.add(self.moments, self.extractor.moments(new))

    def add_images(self, new: Examples, exemplars_per_class: int) -> None:
        self.learned = self.learned.joined(new)
        self.exemplars = self.exemplars.joined(memory.herded(new, exemplars_per_class))


def run(
    extractor: Extractor,
    division: Schedule,
    split: Split,
    methods: Sequence[Method],
    exemplars_per_class: int,
    solved: Solved = lambda: None,
) -> dict[Method, Result]:
    """Learn the classes of a split in rounds, with every method, and test after each.

    Moments are computed once a round for all methods, and so is a head that several methods
    begin with.

    Args:
        extractor: the backbone of the features, without a projection.
        division: the classes of each round.
        split: of every class at least one image to learn.
        methods: what to try.
        exemplars_per_class: of replay.
        solved: called after each head.
    """
    courses = [_Course(method) for method in methods]
    memories = {name: _Memory.of(space(extractor, name)) for name in {m.projected for m in methods}}
    labels = np.array(split.train.labels, object)
    classes: tuple[str, ...] = ()
    for names in division:
        classes = (*classes, *names)
        new = split.train.where(np.isin(labels, names))
        for kept in memories.values():
            kept.add_moments(new)
        _solve_round(courses, memories, new, classes, exemplars_per_class, solved)
        for kept in memories.values():
            kept.add_images(new, exemplars_per_class)
    tests = {name: kept.extractor.project(split.test).vectors[:] for name, kept in memories.items()}
    return {
        course.method: Result(
            _report(course, division, tests[course.method.projected], split.test.labels),
            course.seconds,
            _bytes_kept(course, memories[course.method.projected]),
        )
        for course in courses
    }


def calibrated(head: LinearHead, recipe: Recipe, fit: Fit, known: Evidence) -> LinearHead:
    """The head with the temperature of its probabilities, from which the next one may be made."""
    answers = evaluation.scheme_for(recipe)(fit, known, head.classes, False)
    if not len(answers.true):
        return head
    return replace(head, temperature=heads.temperature(answers.logits, answers.columns))


def space(extractor: Extractor, projected: bool) -> Extractor:
    """The extractor with the projection of the heads that need one, or as it is."""
    return extractor.through(PROJECTION_WIDTH) if projected else extractor


def _solve_round(
    courses: Sequence[_Course],
    memories: dict[bool, _Memory],
    new: Examples,
    classes: tuple[str, ...],
    exemplars: int,
    solved: Solved,
) -> None:
    """Append a head to every course; in round 1 the strategies differ in the temperature alone."""
    begun: dict[tuple[str, bool], tuple[LinearHead, float]] = {}
    for course in courses:
        name = course.method.head
        start_of = name, course.method.exact
        if course.heads or start_of not in begun:
            known = memories[course.method.projected].known(new, course)
            fit = course.fit(classes, exemplars)
            start = time.perf_counter()
            head = fit(known).ordered(classes)
            seconds = time.perf_counter() - start
            if course.needs_temperature:
                head = calibrated(head, Recipe(name), fit, known)
            begun[start_of] = head, seconds
        head, seconds = begun[start_of]
        course.heads.append(head)
        course.seconds += seconds
        solved()


def _report(course: _Course, division: Schedule, vectors: Rows, labels: Sequence[str]) -> Report:
    registry = [
        RegisteredClass(name, number) for number, names in enumerate(division, 1) for name in names
    ]
    history = [RoundHead(number, head, vectors) for number, head in enumerate(course.heads, 1)]
    return evaluation.evaluate(str(course.method), registry, history, labels, ())


def _bytes_kept(course: _Course, kept: _Memory) -> int:
    """The head, and what the strategy needs beside it to go on."""
    head, width = course.heads[-1], kept.moments.width
    size = head.weights.nbytes + head.bias.nbytes
    row = 4 * width
    if strategies.STRATEGIES[course.method.strategy].from_moments:
        return size + 8 * (width * (width + 1) // 2 + len(head.classes) * width)
    if course.method.old_images is OldImages.ALL:
        return size + row * len(kept.learned)
    # Features are standardised by the mean and the variance of all images so far.
    size += 16 * width
    if course.method.old_images is OldImages.SOME:
        size += (row + 3 * kept.extractor.stored.image_size**2) * len(kept.exemplars)
    return size
