"""New columns beside ImageNet's own 1000, whose images are gone.

    python scripts/bench/imagenet_columns.py caltech51 --background caltech_background
    python scripts/bench/imagenet_columns.py caltech51 --background caltech_background --choosing

The head is that of EfficientNet-Lite0 in its package. New are classes of Caltech-101 that ImageNet
lacks, `--train` images of each, and all 51; old are photographs of 22 kinds that it has. Printed
are the accuracy on 13 other images of each new class, among all columns, and the share of the old
photographs, and of the background's, about which the network says what it said before: without any
old image, and with a sample of unlabelled photographs of the old kinds that are in no other part.
Last is the accuracy on the old photographs, before and after: what the network calls most images of
a kind is taken for its name.

Of the 51 classes 22 are in ImageNet: for these the old column is right as well, and the photographs
of old kinds are of new classes then, so that the background alone tells.

With --choosing the new classes are twelve others, and the old photographs are others of the same
kinds: on these the constants of `tlcli/heads` were chosen.
"""

import argparse
import tempfile
from collections import Counter
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
from tlcli.images.unlabelled import unlabelled
from tlcli.rounds.intake import scan
from tlcli.rounds.usual_images import usual_images

LACKING = (
    *("Faces", "dollar_bill", "euphonium", "inline_skate", "lotus"),
    *("metronome", "okapi", "sea_horse", "wheelchair", "yin_yang"),
)
CHOOSING = (
    *("anchor", "bonsai", "brontosaurus", "ceiling_fan", "gerenuk", "headphone"),
    *("helicopter", "mayfly", "rhino", "scissors", "stop_sign", "sunflower"),
)
OLD = (
    *("Leopards", "accordion", "barrel", "beaver", "butterfly", "cannon", "cougar_body", "crab"),
    *("crocodile", "cup", "dragonfly", "elephant", "flamingo_head", "grand_piano", "llama"),
    *("nautilus", "panda", "pizza", "saxophone", "soccer_ball", "starfish", "trilobite"),
)
TESTED, SAMPLE, FOR_CHOOSING = 13, 50, 25
FIGURES = ("new", "old as before", "background as before", "old right before", "old right after")
"""Of each row, without any old image and then with a sample."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What is learned, tested, and sampled."""

    learned: Examples
    tested: Examples
    old: Examples
    sample: Examples
    background: Examples


def main() -> None:
    """Print the table."""
    options = _options()
    config = CompareConfig(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        (begins,) = beginnings(config)
        listing = scan(options.data, config.images.columns, no_progress)
        seen = see(config, begins, Path(scratch) / "a", listing, no_progress)
        images = unlabelled(options.background, no_progress).images
        background = seen.extractor.features(images, no_progress).examples
        parts = [_parts(seen.examples, background, options, seed) for seed in range(options.seeds)]
        print(f"| new classes | {' | '.join((*FIGURES, *FIGURES))} |\n{'|---' * 11}|")
        for title, rounds in _planned(options.choosing, listing.classes).items():
            figures = [
                np.mean([_measured(seen.extractor, each, rounds, sample) for each in parts], axis=0)
                for sample in (False, True)
            ]
            row = " | ".join(f"{figure:.3f}" for figure in np.concatenate(figures))
            print(f"| {title} | {row} |", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--background", required=True, help="a folder of photographs of anything")
    parser.add_argument("--choosing", action="store_true", help="classes to choose constants on")
    parser.add_argument("--train", type=int, default=25, help="images of a new class")
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def _planned(choosing: bool, everything: Sequence[str]) -> dict[str, list[tuple[str, ...]]]:
    names = (CHOOSING if choosing else LACKING)[:10]
    planned: dict[str, list[tuple[str, ...]]] = {
        "1": [names[:1]],
        "3": [names[:3]],
        "10": [names],
        "10 in ten rounds": [(name,) for name in names],
    }
    return planned if choosing else planned | {"51": [tuple(everything)]}


def _parts(
    examples: Examples, background: Examples, options: argparse.Namespace, seed: int
) -> Parts:
    labels, fixed = np.array(examples.labels, object), np.random.default_rng(0)
    where = {name: np.flatnonzero(labels == name) for name in sorted(set(examples.labels))}
    apart = {name: fixed.permutation(rows) for name, rows in where.items()}
    generator = np.random.default_rng(seed)
    rows = {name: generator.permutation(found) for name, found in where.items()}
    part = slice(FOR_CHOOSING) if options.choosing else slice(FOR_CHOOSING, None)
    old = [*generator.permutation([row for name in OLD for row in apart[name][part]])]
    return Parts(
        examples.take([row for name in rows for row in rows[name][: options.train]]),
        examples.take([row for name in rows for row in rows[name][options.train :][:TESTED]]),
        examples.take(old[SAMPLE:]),
        examples.take(old[:SAMPLE]),
        background,
    )


def imagenet() -> LinearHead:
    """The 1000 columns that come with the weights, by number."""
    weights, bias = backbones.packaged_columns(backbones.architecture(backbones.DEFAULT_BACKBONE))
    names = tuple(f"ImageNet {number:03}" for number in range(len(bias)))
    return LinearHead(names, weights, bias)


def _measured(
    extractor: Extractor, parts: Parts, rounds: Sequence[Sequence[str]], sampled: bool
) -> tuple[float, ...]:
    start = head = imagenet()
    sample = parts.sample if sampled else None
    labels = np.array(parts.learned.labels, object)
    for names in rounds:
        new = parts.learned.where(np.isin(labels, names))
        _, parent = usual_images(head, extractor, sample, new)
        told = strategies.StrategyInput(
            Recipe(), (*head.classes, *sorted(names)), StrategyOptions()
        )
        evidence = Evidence(None, new, new.take([]), parent, sample=sample)
        head = strategies.following(strategies.STRATEGIES["freeze-old"], told)(evidence)
    known = _named(start, parts.learned)
    tested = parts.tested.where(np.isin(parts.tested.labels, [*np.concatenate(rounds)]))
    said = zip(head.predict(tested.vectors), tested.labels, strict=True)
    right = [answer in (name, known.get(name)) for answer, name in said]
    kept = [_same(start, head, images) for images in (parts.old, parts.background)]
    called = _named(start, parts.old)
    wanted = np.array([called[name] for name in parts.old.labels], object)
    old = [float((each.predict(parts.old.vectors) == wanted).mean()) for each in (start, head)]
    return (float(np.mean(right)), *kept, *old)


def _same(before: LinearHead, after: LinearHead, images: Examples) -> float:
    return float((before.predict(images.vectors) == after.predict(images.vectors)).mean())


def _named(head: LinearHead, examples: Examples) -> dict[str, str]:
    """What a network calls the classes that it knows: its most frequent answer."""
    answers = zip(head.predict(examples.vectors), examples.labels, strict=True)
    said = Counter((name, answer) for answer, name in answers if name in OLD)
    return {name: answer for (name, answer), _ in said.most_common()[::-1]}


if __name__ == "__main__":
    main()
