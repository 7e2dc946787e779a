"""Compare classes learned in rounds with training a classifier on all images at once.

    python scripts/bench/incremental.py caltech51 --rounds 10+10+10+10+10+1 --train 30 --seeds 3
    python scripts/bench/incremental.py flowers128 --rounds 3+1+1 --train 100 --image-size 128
    python scripts/bench/incremental.py fashion/train --test-data fashion/test --rounds 5+1... \
        --image-size 96 --seeds 1

For each seed, `--train` random images of every class are learned and all others are tested, at
most `--test` of a class. With --test-data these are tested instead, and without --train all of
DATA is learned. The rounds run in memory with the code of `tlcli compare`; "auto" is the head that
cross-validation on the images of round 1 alone prefers, as `tlcli pretrain --head auto`. The two
references see all images of all rounds so far:

    logistic regression   scikit-learn's, to convergence, on standardised features
    linear SVM            scikit-learn's LinearSVC on features of length 1

both with the best C of three or four powers of ten in threefold cross-validation; at C = 1
logistic regression has 4 points less on all of Fashion-MNIST.

The table has the mean ± the standard deviation over the seeds: the mean of the classes' accuracies
after the last round, its difference to logistic regression on the same images, the average
incremental accuracy, and the seconds to solve the heads of all rounds on one thread.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tlcli import evaluation, strategies
from tlcli.commands.compare.command import Seen, beginnings, see
from tlcli.commands.compare.methods import Method
from tlcli.commands.compare.schedule import Schedule, schedule_of
from tlcli.commands.compare.trials import Split, run, space
from tlcli.config import CompareConfig, HeadOptions, no_progress
from tlcli.evaluation import Report, RoundHead
from tlcli.extractor import Extractor
from tlcli.features import Examples
from tlcli.heads import HEADS, Evidence, LinearHead, Recipe
from tlcli.manifest import RegisteredClass
from tlcli.rounds.intake import registered, scan
from tlcli.rounds.selection import Candidate, best_head, candidates
from tlcli.rounds.solution import Problem

FROM_MOMENTS = [name for name, row in HEADS.items() if row.solve]
STRATEGIES = ("freeze-old", "lwf", "replay", "naive")
EXEMPLARS = 20
SHOWN = {
    **{Method("merge", name): f"merge, {name}" for name in ("lda", "ridge", "rp-ridge")},
    **{Method(name, "softmax"): name for name in STRATEGIES},
    Method("replay", "softmax"): f"replay, {EXEMPLARS} images a class",
}
LOGISTIC = "joint logistic regression"
AUTO = "merge, auto"


@dataclass(frozen=True)
class Row:
    """How one method fared with one seed."""

    mean_class_accuracy: float
    average_incremental_accuracy: float
    seconds: float

    @staticmethod
    def of(report: Report, seconds: float) -> "Row":
        """From the report of its rounds."""
        assert report.average_incremental_accuracy is not None
        return Row(report.figures.mean_class_accuracy, report.average_incremental_accuracy, seconds)


def main() -> None:
    """Print the table."""
    options = _options()
    config = CompareConfig(options.data, options.rounds, image_size=options.image_size)
    with tempfile.TemporaryDirectory() as scratch:
        seen = features_of(config, Path(scratch) / "a")
        extractor, learned = seen.extractor, seen.examples
        tested = None
        if options.test_data:
            test_config = CompareConfig(options.test_data, image_size=options.image_size)
            tested = features_of(test_config, Path(scratch) / "b").examples
    planned = schedule_of(sorted(set(learned.labels)), config)
    found: list[dict[str, Row]] = []
    chosen = []
    for seed in range(options.seeds):
        split = split_of(learned, tested, options.train, options.test, seed)
        rows, head = _measured(extractor, planned, split)
        found.append(rows)
        chosen.append(head)
    sizes = f"{len(split.train)} images learned, {len(split.test)} tested"
    print(f"{options.data}: {sizes}, seeds {options.seeds}, auto chose {', '.join(chosen)}\n")
    _print(found)


def arguments(says: str) -> argparse.ArgumentParser:
    """What the benchmarks have in common that draw images of each class to learn and to test."""
    parser = argparse.ArgumentParser(description=says.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--test", type=int, help="most images a class that are tested")
    parser.add_argument("--test-data", metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-size", type=int)
    return parser


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", help="classes a round, as for tlcli compare")
    parser.add_argument("--train", type=int, help="images a class; all others are tested")
    options = parser.parse_args()
    if not options.train and not options.test_data:
        parser.error("give --train, or --test-data")
    return options


def features_of(config: CompareConfig, scratch: Path) -> Seen:
    """The images of DATA as the one backbone of a config sees them."""
    listing = scan(config.data, config.images.columns, no_progress)
    (begins,) = beginnings(config)
    return see(config, begins, scratch, listing, no_progress)


def split_of(
    learned: Examples, tested: Examples | None, train: int | None, test: int | None, seed: int
) -> Split:
    """Choose images at random, the same number of every class that has enough of them."""
    generator = np.random.default_rng(seed)
    order = _shuffled_by_class(learned, generator)
    if tested is None:
        assert train is not None
        first = [row for rows in order for row in rows[:train]]
        others = [row for rows in order for row in rows[train:][:test]]
        return Split(learned.take(first), learned.take(others))
    first = [row for rows in order for row in rows[:train]]
    others = [row for rows in _shuffled_by_class(tested, generator) for row in rows[:test]]
    return Split(learned.take(first), tested.take(others))


def _shuffled_by_class(
    examples: Examples, generator: np.random.Generator
) -> list[NDArray[np.integer]]:
    labels = np.array(examples.labels, object)
    order = np.argsort(examples.hashes)
    return [
        generator.permutation(order[labels[order] == name]) for name in sorted(set(examples.labels))
    ]


def _measured(extractor: Extractor, planned: Schedule, split: Split) -> tuple[dict[str, Row], str]:
    """Measure every row of the table for one seed; also the head that auto chose."""
    merged = {name: Method("merge", name) for name in FROM_MOMENTS}
    methods = [*merged.values(), *(Method(name, "softmax") for name in STRATEGIES)]
    results = run(extractor, planned, split, methods, EXEMPLARS)
    found = {method: Row.of(result.report, result.seconds) for method, result in results.items()}
    rows = {name: found[method] for method, name in SHOWN.items()}
    start = time.process_time()
    with threadpool_limits(limits=1):
        first = split.train.where(np.isin(split.train.labels, planned[0]))
        head = chosen_head(extractor, first).head
        choosing_seconds = time.process_time() - start
        references = _references(planned, split)
    best = found[merged[head]]
    rows[AUTO] = Row(
        best.mean_class_accuracy,
        best.average_incremental_accuracy,
        best.seconds + choosing_seconds,
    )
    return rows | references, head


def chosen_head(plain: Extractor, first: Examples) -> Candidate:
    """Return the head that `pretrain --head auto` takes for the images of round 1."""

    def posed(name: str) -> Problem:
        recipe = Recipe(name)
        extractor = space(plain, HEADS[name].projected)
        evidence = Evidence(
            extractor.moments(first),
            extractor.project(first),
            extractor.project(extractor.no_examples()),
        )
        registry = registered((), first.labels, 1)
        return Problem(extractor, recipe, strategies.first(recipe), evidence, registry)

    width = plain.stored.width
    names = candidates(HeadOptions(), first.labels, False, None, width)
    choice = best_head(names, posed, evaluation.cross_validate_anew, False, no_progress)
    return choice.candidates[0]


def _references(planned: Schedule, split: Split) -> dict[str, Row]:
    return {LOGISTIC: joint_logistic(planned, split), "joint linear SVM": joint_svm(planned, split)}


def joint_svm(planned: Schedule, split: Split) -> Row:
    """Fit a linear support vector machine to all images so far in every round."""
    from sklearn.preprocessing import Normalizer
    from sklearn.svm import LinearSVC

    machine = LinearSVC(max_iter=100_000, random_state=0)
    return _joint(planned, split, Normalizer(), machine, (0.1, 1, 10))


def joint_logistic(planned: Schedule, split: Split) -> Row:
    """Logistic regression on all images so far in every round."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    logistic = LogisticRegression(max_iter=10_000)
    return _joint(planned, split, StandardScaler(), logistic, (0.001, 0.01, 0.1, 1))


def _joint(
    planned: Schedule, split: Split, scaler: Any, machine: Any, grid: Sequence[float]
) -> Row:
    """Fit all images so far in every round."""
    from sklearn.model_selection import GridSearchCV

    labels = np.array(split.train.labels, object)
    classes: tuple[str, ...] = ()
    history, seconds = [], 0.0
    for number, names in enumerate(planned, 1):
        classes = (*classes, *names)
        mask = np.isin(labels, classes)
        vectors = split.train.vectors[mask]
        start = time.perf_counter()
        scaler.fit(vectors)
        search = GridSearchCV(machine, {"C": list(grid)}, cv=3)
        search.fit(scaler.transform(vectors), labels[mask].astype(str))
        seconds += time.perf_counter() - start
        scaled = scaler.transform(split.test.vectors[:]).astype(np.float32)
        history.append(RoundHead(number, _linear(search.best_estimator_), scaled))
    registry = [
        RegisteredClass(name, number) for number, names in enumerate(planned, 1) for name in names
    ]
    return Row.of(evaluation.evaluate("", registry, history, split.test.labels, ()), seconds)


def _linear(fitted: Any) -> LinearHead:
    weights, bias = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:
        weights, bias = np.vstack([-weights, weights]), np.concatenate([-bias, bias])
    names = tuple(map(str, fitted.classes_))
    return LinearHead(names, weights.T.astype(np.float32), bias.astype(np.float32))


def _print(found: Sequence[dict[str, Row]]) -> None:
    joint = np.array([rows[LOGISTIC].mean_class_accuracy for rows in found])
    print(
        "| | mean class accuracy | to logistic regression | average incremental accuracy "
        "| seconds |\n|---|---|---|---|---|"
    )
    best_first = sorted(
        found[0], key=lambda name: -sum(rows[name].mean_class_accuracy for rows in found)
    )
    for name in best_first:
        accuracy = np.array([rows[name].mean_class_accuracy for rows in found])
        incremental = np.array([rows[name].average_incremental_accuracy for rows in found])
        seconds = np.mean([rows[name].seconds for rows in found])
        print(
            f"| {name} | {spread_text(accuracy)} % | {spread_text(accuracy - joint, '+')} "
            f"| {spread_text(incremental)} % | {seconds:.1f} |"
        )


def spread_text(shares: NDArray[np.float64], sign: str = "") -> str:
    """Mean ± standard deviation in per cent, without its sign."""
    mean = f"{round(100 * shares.mean(), 1) + 0.0:{sign}.1f}"
    return f"{mean} ± {100 * shares.std(ddof=1):.1f}" if len(shares) > 1 else mean


if __name__ == "__main__":
    main()
