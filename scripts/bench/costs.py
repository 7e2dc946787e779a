"""What it is worth to choose C of softmax by cross-validation: against C = 1.

    python scripts/bench/costs.py flowers128 --train 100 --image-size 128
    python scripts/bench/costs.py fashion/train --test-data fashion/test --train 600 --test 500 \\
        --image-size 96

For each seed, `--train` random images of every class are learned and all others are tested, at
most `--test` of a class; of --test-data where it is given. The table has the means of the classes'
accuracies on the images to test, what cross-validation chose, and the seconds to solve the head,
the search included.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
from incremental import arguments, features_of, split_of

from tlcli.commands.compare.trials import Split
from tlcli.config import AUTO, CompareConfig
from tlcli.features import Examples
from tlcli.heads import Recipe


def main() -> None:
    """Print a row for every seed."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        learned = _examples(options, options.data, Path(scratch) / "a")
        given = options.test_data
        tested = _examples(options, given, Path(scratch) / "b") if given else None
    print("| images | C = 1 | chosen | C chosen | seconds, C = 1 | chosen |")
    print("|---|---|---|---|---|---|")
    logging.getLogger("tlcli.heads.costs").setLevel(logging.INFO)
    told = Told()
    logging.getLogger("tlcli.heads.costs").addHandler(told)
    for seed in range(options.seeds):
        split = split_of(learned, tested, options.train, options.test, seed)
        (usual, before), (chosen, seconds) = (_measured(split, c) for c in ("1", AUTO))
        print(
            f"| {len(split.train)} | {usual:.1%} | {chosen:.1%} | {told.last} | {before:.1f} "
            f"| {seconds:.1f} |",
            flush=True,
        )


class Told(logging.Handler):
    """The last C that was said to be chosen."""

    last = "–"

    def emit(self, record: logging.LogRecord) -> None:
        """Remember it."""
        self.last = record.getMessage().split(",")[0].removeprefix("C = ")


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--train", type=int, required=True, help="images a class")
    parser.add_argument("--layers", default="last")
    return parser.parse_args()


def _examples(options: argparse.Namespace, data: str, scratch: Path) -> Examples:
    config = CompareConfig(data, image_size=options.image_size, layers=(options.layers,))
    return features_of(config, scratch).examples


def _measured(split: Split, cost: str) -> tuple[float, float]:
    """The mean class accuracy, and the seconds to solve."""
    start = time.perf_counter()
    head = Recipe("softmax", c=cost).fit(split.train)
    seconds = time.perf_counter() - start
    labels = np.array(split.test.labels, object)
    right = head.predict(split.test.vectors[:]) == labels
    return float(np.mean([right[labels == name].mean() for name in head.classes])), seconds


if __name__ == "__main__":
    main()
