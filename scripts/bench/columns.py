"""Compare ways to add classes beside a head whose images are gone with joint training.

    python scripts/bench/columns.py caltech51 --rounds 40+10+1
    python scripts/bench/columns.py flowers128 --rounds 3+1+1 --test 200
    python scripts/bench/columns.py fashion/train --rounds 6+1+1+1+1 --test 100 --image-size 96

For each seed, `--train` random images of every class are learned and `--test` others are tested.
After round 1 nothing is left of its images but the head (a run with --memory none). The sample are
`--sample` images of the classes of round 1 that are neither learned nor tested, without labels.

    cross-entropy     the new columns alone, fitted to the new images from the class means
    freeze-old        Gaussian columns, by the mean feature of the images learned before
    … with a sample   and fitted to tell new images from the sample
    lwf, replay       without old images, and with the sample in their place

The table has the mean over the seeds: accuracy on all classes after the last round, its difference
to joint training of the same head on all images, and the accuracy on the classes of round 1 and on
the later ones.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlcli import heads, strategies
from tlcli.commands.compare.command import beginnings, see
from tlcli.commands.compare.schedule import schedule_of
from tlcli.commands.compare.trials import calibrated
from tlcli.config import CompareConfig, StrategyOptions, no_progress
from tlcli.extractor import Extractor
from tlcli.features import Examples
from tlcli.heads import Evidence, LinearHead, Recipe, Standardisation, Task
from tlcli.heads.imprinting import grow
from tlcli.rounds.intake import scan

Step = Callable[[LinearHead, Examples, tuple[str, ...]], LinearHead]
"""From the parent's head, the new images and the registry to the next head."""

HEADS = ("lda", "softmax")


@dataclass(frozen=True, eq=False)
class Split:
    """One seed."""

    learned: Examples
    tested: Examples
    sample: Examples


def main() -> None:
    """Print the table."""
    options = _options()
    config = CompareConfig(options.data, options.rounds, image_size=options.image_size)
    with tempfile.TemporaryDirectory() as scratch:
        (begins,) = beginnings(config)
        listing = scan(options.data, config.images.columns, no_progress)
        seen = see(config, begins, Path(scratch) / "a", listing, no_progress)
    planned = schedule_of(sorted(set(seen.examples.labels)), config)
    splits = [_split(seen.examples, planned[0], options, seed) for seed in range(options.seeds)]
    for name in HEADS:
        print(f"\n{options.data}, {options.rounds}, {name}\n")
        print("| | all classes | to joint | old | new |\n|---|---|---|---|---|")
        found = [_measured(name, seen.extractor, planned, split) for split in splits]
        for method in found[0]:
            everything, old, new = np.mean([rows[method] for rows in found], axis=0)
            joint = np.mean([rows["joint training"][0] for rows in found])
            print(
                f"| {method} | {everything:.3f} | {100 * (everything - joint):+.1f} "
                f"| {old:.3f} | {new:.3f} |"
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--rounds", required=True, help="classes a round, as for tlcli compare")
    parser.add_argument("--train", type=int, default=25, help="images a class")
    parser.add_argument("--test", type=int, default=15, help="most images a class that are tested")
    parser.add_argument("--sample", type=int, default=50, help="unlabelled images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-size", type=int)
    return parser.parse_args()


def _split(
    examples: Examples, first: Sequence[str], options: argparse.Namespace, seed: int
) -> Split:
    generator = np.random.default_rng(seed)
    labels = np.array(examples.labels, object)
    learned, tested, left = [], [], []
    for name in sorted(set(examples.labels)):
        rows = generator.permutation(np.flatnonzero(labels == name))
        learned += [*rows[: options.train]]
        tested += [*rows[options.train :][: options.test]]
        if name in first:
            left += [*rows[options.train + options.test :]]
    sample = generator.permutation(left)[: options.sample]
    return Split(examples.take(learned), examples.take(tested), examples.take(sample))


def _measured(
    name: str, extractor: Extractor, planned: Sequence[Sequence[str]], split: Split
) -> dict[str, tuple[float, float, float]]:
    recipe, labels = Recipe(name), np.array(split.learned.labels, object)

    def joint(classes: Sequence[str]) -> LinearHead:
        images = split.learned.where(np.isin(labels, classes))
        known = Evidence(extractor.moments(images), images, images.take([]))
        fit = strategies.first(recipe)
        return calibrated(fit(known).ordered(classes), recipe, fit, known)

    everything = [name for names in planned for name in names]
    found = {"joint training": joint(everything)}
    for method, step in _steps(recipe, split.sample).items():
        head = joint(planned[0])
        for names in planned[1:]:
            new = split.learned.where(np.isin(labels, names))
            head = step(head, new, (*head.classes, *names))
        found[method] = head
    return {method: _accuracies(head, split.tested, planned[0]) for method, head in found.items()}


def _steps(recipe: Recipe, sample: Examples) -> dict[str, Step]:
    def by(strategy: str, given: Examples | None) -> Step:
        def step(parent: LinearHead, new: Examples, classes: tuple[str, ...]) -> LinearHead:
            told = strategies.StrategyInput(recipe, classes, StrategyOptions())
            evidence = Evidence(None, new, new.take([]), parent, sample=given)
            row = strategies.STRATEGIES[strategy]
            fit = strategies.following(row, told)
            head = fit(evidence)
            return head if row.keeps_temperature else calibrated(head, recipe, fit, evidence)

        return step

    def cross_entropy(parent: LinearHead, new: Examples, classes: tuple[str, ...]) -> LinearHead:
        features = new.vectors[:]
        free = np.arange(len(classes)) >= len(parent.classes)
        frame = Standardisation.of_features(features)
        return heads.fit_columns(
            grow(parent, classes, new), Task(features, new.labels, frame, free)
        )

    return {
        "cross-entropy": cross_entropy,
        "freeze-old": by("freeze-old", None),
        "freeze-old with a sample": by("freeze-old", sample),
        "lwf": by("lwf", None),
        "lwf with a sample": by("lwf", sample),
        "replay with a sample": by("replay", sample),
        "naive": by("naive", None),
    }


def _accuracies(
    head: LinearHead, tested: Examples, first: Sequence[str]
) -> tuple[float, float, float]:
    right = head.predict(tested.vectors) == np.array(tested.labels, object)
    old = np.isin(np.array(tested.labels, object), first)
    return float(right.mean()), float(right[old].mean()), float(right[~old].mean())


if __name__ == "__main__":
    main()
