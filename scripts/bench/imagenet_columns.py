"""New columns beside ImageNet's own 1000, whose images are gone.

    python scripts/bench/imagenet_columns.py caltech51

The head is that of EfficientNet-Lite0 in its package. New are classes of Caltech-101 that ImageNet
lacks, `--train` images of each; old are photographs of classes that it has. Printed are the
accuracy on other images of the new classes, among all columns, and the share of the old photographs
about which the network says what it said before: without any old image, and with a sample of
unlabelled photographs of the old kinds that are in no other part.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlcli import backbones, strategies
from tlcli.commands.compare.command import beginnings, see
from tlcli.config import CompareConfig, StrategyOptions, no_progress
from tlcli.extractor import Extractor
from tlcli.features import Examples
from tlcli.heads import Evidence, LinearHead, Recipe
from tlcli.rounds.intake import scan
from tlcli.rounds.usual import usual_images

LACKING = (
    *("Faces", "dollar_bill", "euphonium", "inline_skate", "lotus"),
    *("metronome", "okapi", "sea_horse", "wheelchair", "yin_yang"),
)
OLD = (
    *("Leopards", "accordion", "barrel", "beaver", "butterfly", "cannon", "cougar_body", "crab"),
    *("crocodile", "cup", "dragonfly", "elephant", "flamingo_head", "grand_piano", "llama"),
    *("nautilus", "panda", "pizza", "saxophone", "soccer_ball", "starfish", "trilobite"),
)
TESTED, SAMPLE = 13, 50


@dataclass(frozen=True, eq=False)
class Parts:
    """What is learned, tested, and sampled."""

    learned: Examples
    tested: Examples
    old: Examples
    sample: Examples


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--train", type=int, default=25, help="images of a new class")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = CompareConfig(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        (begins,) = beginnings(config)
        listing = scan(options.data, config.images.columns, no_progress)
        seen = see(config, begins, Path(scratch) / "a", listing, no_progress)
        parts = _parts(seen.examples, options.train, options.seed)
        print("| new classes | no old image: new | old as before | sample: new | old as before |")
        print("|---|---|---|---|---|")
        planned: dict[str, list[tuple[str, ...]]] = {
            "1": [LACKING[:1]],
            "3": [LACKING[:3]],
            "10": [LACKING],
            "10 in ten rounds": [(name,) for name in LACKING],
        }
        for title, rounds in planned.items():
            figures = [
                *_measured(seen.extractor, parts, rounds, None),
                *_measured(seen.extractor, parts, rounds, parts.sample),
            ]
            print(f"| {title} | {' | '.join(f'{figure:.3f}' for figure in figures)} |", flush=True)


def _parts(examples: Examples, train: int, seed: int) -> Parts:
    generator = np.random.default_rng(seed)
    labels = np.array(examples.labels, object)
    rows = {
        name: generator.permutation(np.flatnonzero(labels == name))
        for name in sorted(set(examples.labels))
    }
    old = [row for name in OLD for row in rows[name][train + TESTED :]]
    old = [*generator.permutation(old)]
    return Parts(
        examples.take([row for name in rows for row in rows[name][:train]]),
        examples.take([row for name in rows for row in rows[name][train:][:TESTED]]),
        examples.take(old[SAMPLE:]),
        examples.take(old[:SAMPLE]),
    )


def imagenet() -> LinearHead:
    """The 1000 columns that come with the weights, by number."""
    weights, bias = backbones.packaged_columns(backbones.architecture(backbones.DEFAULT_BACKBONE))
    names = tuple(f"ImageNet {number:03}" for number in range(len(bias)))
    return LinearHead(names, weights, bias)


def _measured(
    extractor: Extractor, parts: Parts, rounds: Sequence[Sequence[str]], sample: Examples | None
) -> tuple[float, float]:
    start = head = imagenet()
    labels = np.array(parts.learned.labels, object)
    for names in rounds:
        new = parts.learned.where(np.isin(labels, names))
        _, parent = usual_images(head, extractor, sample, new)
        told = strategies.StrategyInput(
            Recipe(), (*head.classes, *sorted(names)), StrategyOptions()
        )
        evidence = Evidence(None, new, new.take([]), parent, sample=sample)
        head = strategies.following(strategies.STRATEGIES["freeze-old"], told)(evidence)
    tested = parts.tested.where(np.isin(parts.tested.labels, [*np.concatenate(rounds)]))
    right = head.predict(tested.vectors) == np.array(tested.labels, object)
    before, after = (each.predict(parts.old.vectors) for each in (start, head))
    return float(right.mean()), float((before == after).mean())


if __name__ == "__main__":
    main()
