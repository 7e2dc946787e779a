"""Seconds of a round that adds one class of 30 images to 100 classes, and to 1,000, without images.

    python scripts/bench/solve.py --width 1280

The features are random: what is measured is adding the moments of the new class and solving the
head, which is all that a round does once the features are there. Prints a Markdown table.
"""

import argparse
import time

import numpy as np

from tlcli import heads, moments
from tlcli.heads import Recipe

BITS = 12
IMAGES = 30


def of_classes(first: int, count: int, width: int) -> moments.Moments:
    """Return the moments of 30 random images of each class."""
    rng = np.random.default_rng(first)
    centres = np.repeat(rng.gamma(1.0, 0.5, (count, width)), IMAGES, axis=0)
    features = np.maximum(centres + rng.normal(0, 0.4, centres.shape), 0).astype(np.float32)
    labels = [f"class {first + row // IMAGES}" for row in range(len(features))]
    return moments.of(features, labels, "random", BITS)


def seconds(head: str, old: moments.Moments, new: moments.Moments) -> float:
    """Return the least of three runs."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        Recipe(head).solve(moments.add(old, new))
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1280, help="of a feature vector")
    width = parser.parse_args().width
    names = [name for name, row in heads.HEADS.items() if row.solve and not row.projected]
    print(f"| classes, width {width} |", " | ".join(names), "|")
    print("|" + "---|" * (len(names) + 1))
    for classes in (100, 1000):
        old, new = of_classes(0, classes, width), of_classes(classes, 1, width)
        measured = [f"{seconds(name, old, new):.2f} s" for name in names]
        print(f"| {classes} + 1 |", " | ".join(measured), "|")


if __name__ == "__main__":
    main()
