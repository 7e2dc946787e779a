"""compare: the same rounds under several strategies, heads and backbones."""

import itertools
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones, images, memory, reports, runs
from tlcli.backbones import USUAL, Imagenet, Random, Reading, StoredBackbone
from tlcli.commands.compare.methods import LeftOut, Method, asked_for, possible
from tlcli.commands.compare.schedule import Schedule, schedule_of
from tlcli.commands.compare.spread import Comparison, MethodFigures, SeenBy
from tlcli.commands.compare.trials import Result, Solved, Split, run
from tlcli.config import CompareConfig, Progress, no_progress
from tlcli.errors import DataError, UsageError
from tlcli.extractor import Extractor, require_computable
from tlcli.features import Examples
from tlcli.images import Listing, Skipped
from tlcli.rounds.backbone import Beginning, OfRun, opened
from tlcli.rounds.intake import named, readable, scan
from tlcli.rounds.result import Phases

log = logging.getLogger(__name__)

TRAINED_ONLY = images.TRAINED_ONLY
"""The fold of an image that is in no test set."""


def compare(config: CompareConfig, progress: Progress = no_progress) -> Comparison:
    """Learn the classes of DATA in rounds, with every method, by cross-validation.

    Nothing is written but the report that was asked for.

    Raises:
        TlcliError: see errors.py.
    """
    phases = Phases(progress)
    _require_possible(config)
    begin = beginnings(config)
    listing = scan(config.data, config.images.columns, progress)
    planned = schedule_of(_classes(listing, config.data), config)
    _warn_of_learned(begin, listing)
    with tempfile.TemporaryDirectory(prefix="tlcli-compare-") as scratch, phases.phase("features"):
        seen = [
            see(config, begins, Path(scratch) / str(number), listing, progress)
            for number, begins in enumerate(begin)
        ]
    with phases.phase("head"):
        trial = _Trial.of(config, planned, seen[0].examples)
        found = trial.run(seen, progress)
    comparison = Comparison(
        config.data,
        len(seen[0].examples),
        seen[0].skipped,
        planned,
        config.folds,
        config.exemplars_per_class,
        tuple(sorted(found, key=lambda entry: entry.rank)),
        trial.left_out,
        phases.total(),
    )
    if config.report is not None:
        reports.write_comparison(comparison.to_json(), config.report)
    return comparison


def _require_possible(config: CompareConfig) -> None:
    """Refuse, before any image is read, what cannot be meant."""
    if config.folds < 2:
        raise UsageError(
            f"Expected at least two folds. Received: folds={config.folds}. Use 5, say."
        )
    require_computable(config.runs_on)
    if config.report is not None:
        reports.require_report(config.report)
    for name in config.backbones or ():
        backbones.architecture(name)
    for reading in _readings(config):
        reading.require()
    asked_for(config)


def _readings(config: CompareConfig) -> list[Reading]:
    """Which layers and views are to be tried."""
    layers = dict.fromkeys(config.layers or (USUAL.layers,))
    views = dict.fromkeys(config.views or (USUAL.views,))
    return [Reading(*both) for both in itertools.product(layers, views)]


def beginnings(config: CompareConfig) -> tuple[Beginning, ...]:
    """The backbones to try, each as it is to be read; the one of a run as it is.

    Raises:
        UsageError: the weights are random, or cannot be of the backbones.
        RunError: they are those of a folder that is no run.
    """
    source, names = opened(config.weights), config.backbones or ()
    if isinstance(source, Random):
        raise UsageError(
            f"Expected pretrained weights. Received: weights={config.weights}, with which nothing "
            "is learned here. Leave --weights out, or name a file or a run."
        )
    if not isinstance(source, Imagenet) and len(names) > 1:
        raise UsageError(
            f"Expected one backbone for the weights {config.weights}. Received: backbones="
            f"{','.join(names)}. Name one, or leave --weights out."
        )
    if isinstance(source, OfRun):
        source.require("backbones", _listed(names), source.stored.name)
        source.require("image-size", config.image_size, source.stored.image_size)
        source.require("layers", _listed(config.layers), source.stored.reading.layers)
        source.require("views", _listed(config.views), str(source.stored.reading.views))
        return (Beginning.of_run(source),)
    precision = backbones.DEFAULT_PRECISION
    return tuple(
        Beginning(name, config.image_size, precision, {}, source, reading)
        for name in dict.fromkeys(names or (backbones.DEFAULT_BACKBONE,))
        for reading in _readings(config)
    )


def _listed(names: Sequence[object] | None) -> str | None:
    """What an option asks for in one text; None where it asks for nothing."""
    return ",".join(map(str, names)) if names else None


def _classes(listing: Listing, data: str) -> tuple[str, ...]:
    if len(listing.classes) < 2:
        raise DataError(
            f"Expected at least two classes. Received: {named(listing.classes)} alone in "
            f"{data}. Add a folder with images of something else."
        )
    return listing.classes


def _warn_of_learned(begin: Sequence[Beginning], listing: Listing) -> None:
    """Say how many images a trained backbone has learned with their labels: no fold hides them."""
    for source in (begins.source for begins in begin):
        if isinstance(source, OfRun) and source.stored.trained:
            ledger = memory.ledger_of(runs.open_run(source.path).round())
            if count := len(ledger.keys() & set(listing.sha256s)):
                log.warning(
                    "the backbone of %s was trained on %d of the %d images: the figures look "
                    "better than they are",
                    source.path,
                    count,
                    len(listing.images),
                )


@dataclass(frozen=True, eq=False)
class Seen:
    """The images of DATA as one backbone sees them."""

    extractor: Extractor
    examples: Examples
    skipped: tuple[Skipped, ...]
    milliseconds_per_image: float | None
    """None where all features were cached."""

    @property
    def by(self) -> SeenBy:
        """The backbone, and what it costs."""
        stored = self.extractor.stored
        return SeenBy(
            stored.name,
            stored.reading.layers,
            stored.reading.views,
            " ".join(f"--{name} {value}" for name, value in stored.reading.choices.items()),
            stored.width,
            self.milliseconds_per_image,
        )


def see(
    config: CompareConfig, begins: Beginning, scratch: Path, listing: Listing, progress: Progress
) -> Seen:
    """The features of all images; the engine is not needed afterwards."""
    extractor = Extractor.of(_stored(begins, scratch), config.runs_on, None)
    start = time.perf_counter()
    found = extractor.features(listing.images, progress)
    milliseconds = 1e3 * (time.perf_counter() - start)
    computed = len(found.images) - found.from_cache
    skipped = readable(listing, found, (), config.images.max_bad)
    cost = round(milliseconds / computed, 2) if computed else None
    return Seen(extractor, found.examples, skipped, cost)


def _stored(begins: Beginning, scratch: Path) -> StoredBackbone:
    """The backbone of the run that the weights are of, or one that is prepared in `scratch`."""
    if isinstance(begins.source, OfRun):
        return begins.source.stored
    scratch.mkdir()
    return begins.stored_in(scratch)


@dataclass(frozen=True, eq=False)
class _Trial:
    """What is tried."""

    planned: Schedule
    folds: int
    exemplars_per_class: int
    methods: tuple[Method, ...]
    left_out: tuple[LeftOut, ...]

    @staticmethod
    def of(config: CompareConfig, planned: Schedule, examples: Examples) -> "_Trial":
        fold = folds_of(examples, config.folds)
        fewest, name = _fewest(examples.labels, fold)
        chosen, left_out = possible(asked_for(config), fewest, name)
        for entry in left_out:
            log.warning("%s %s is left out: %s", entry.strategy, entry.head, entry.reason)
        return _Trial(planned, config.folds, config.exemplars_per_class, chosen, left_out)

    def run(self, seen: Sequence[Seen], progress: Progress) -> list[MethodFigures]:
        """The figures of every method with every backbone."""
        held = len(_held(folds_of(seen[0].examples, self.folds)))
        solved = _counter(progress, len(seen) * held * len(self.planned) * len(self.methods))
        return [entry for view in seen for entry in self._figures(view, solved)]

    def _figures(self, view: Seen, solved: Solved) -> list[MethodFigures]:
        fold = folds_of(view.examples, self.folds)
        results = [self._results(view, fold == number, solved) for number in _held(fold)]
        return [
            MethodFigures.of(
                view.by,
                method,
                [result[method] for result in results],
                [result[method.reference] for result in results],
            )
            for method in self.methods
        ]

    def _results(self, view: Seen, held: NDArray[np.bool_], solved: Solved) -> dict[Method, Result]:
        split = Split(view.examples.where(~held), view.examples.where(held))
        return run(
            view.extractor, self.planned, split, self.methods, self.exemplars_per_class, solved
        )


def _held(fold: NDArray[np.int64]) -> list[int]:
    """The folds that have images."""
    return [int(number) for number in np.unique(fold) if number != TRAINED_ONLY]


def folds_of(examples: Examples, count: int) -> NDArray[np.int64]:
    """The fold (n,) of each image, by content; a class with one image is never tested.

    Raises:
        DataError: there is no class with two images.
    """
    fold = images.folds(examples.hashes, examples.labels, count, examples.groups)
    counts = Counter(examples.labels)
    fold[[counts[name] == 1 for name in examples.labels]] = TRAINED_ONLY
    if (fold == TRAINED_ONLY).all():
        raise DataError(
            "Expected at least two images of a class, to learn from one and test on the other. "
            "Received: one image, or one group of images, of every class. Add images."
        )
    return fold


def _fewest(labels: Sequence[str], fold: NDArray[np.int64]) -> tuple[int, str]:
    """The smallest number of images of a class that are left to learn in a fold, and the class."""
    names = np.array(labels, object)
    least = []
    for name, count in Counter(labels).items():
        tested = fold[names == name]
        most = np.bincount(tested[tested != TRAINED_ONLY], minlength=1).max()
        least.append((count - int(most), name))
    return min(least)


def _counter(progress: Progress, total: int) -> Solved:
    """Reports one more head each time it is called."""
    done = 0

    def solved() -> None:
        nonlocal done
        done += 1
        progress("comparing", done, total)

    progress("comparing", 0, total)
    return solved
