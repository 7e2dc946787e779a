"""What further layers and the mirror image are worth: every --layers and --views.

    python scripts/bench/readings.py flowers128 --train 100 --image-size 128
    python scripts/bench/readings.py caltech51 --train 25 --test 15
    python scripts/bench/readings.py fashion/train --test-data fashion/test --train 500 \\
        --test 500 --image-size 96

For each seed, `--train` random images of every class are learned at once and all others are tested,
at most `--test` of a class; of --test-data where it is given. "auto" is the head that
cross-validation on the learned images prefers, as `tlcli pretrain --head auto`; its seconds are of
a processor, for choosing on one thread. The last lines are "auto" over layers, as `tlcli pretrain
--layers auto --head auto` takes them, and scikit-learn's logistic regression and linear SVM on the
features of the first row, with the best C of four or three in threefold cross-validation.

The table has the mean of the classes' accuracies ± the standard deviation over the seeds, the width
of the features and the milliseconds that those of one image take here; – where they were cached.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from incremental import (
    arguments,
    chosen_head,
    features_of,
    joint_logistic,
    joint_svm,
    split_of,
    spread_text,
)
from threadpoolctl import threadpool_limits

from tlcli.backbones import LAYERS, VIEWS, Reading
from tlcli.commands.compare.command import Seen
from tlcli.commands.compare.methods import Method
from tlcli.commands.compare.schedule import Schedule
from tlcli.commands.compare.trials import Split, run
from tlcli.config import CompareConfig
from tlcli.rounds.selection import Candidate

SHOWN = ("lda", "ridge")
EXEMPLARS = 1

Splits = Sequence[Split]


@dataclass(frozen=True)
class Found:
    """What one reading gave with one seed."""

    accuracy: Mapping[str, float]
    """Of each head that is shown, and of the best, on the images to test."""
    auto: Candidate
    """The head that cross-validation on the images to learn prefers."""
    seconds: float
    """Of choosing it."""

    @property
    def of_auto(self) -> float:
        """The accuracy of that head."""
        return self.accuracy[self.auto.head]


def main() -> None:
    """Print a row for every reading, and what they are compared with."""
    options = _options()
    print(f"| layers | views | width | ms | {' | '.join(SHOWN)} | auto | heads of auto | seconds |")
    print("|---|---|---|---|" + "---|" * (len(SHOWN) + 3))
    first: Splits = ()
    found: dict[Reading, list[Found]] = {}
    for views, layers in itertools.product(options.views, LAYERS):
        seen, splits = _seen(options, layers, views)
        first = first or splits
        here = found[Reading(layers, views)] = [_measured(seen, split) for split in splits]
        _print_row(seen, here)
    for views in options.views:
        _print_auto(views, [found[Reading(layers, views)] for layers in LAYERS])
    _print_joint(first)


def _print_row(seen: Seen, found: Sequence[Found]) -> None:
    columns = [[one.accuracy[name] for one in found] for name in SHOWN]
    shown = [f"{spread_text(np.array(c))} %" for c in (*columns, [one.of_auto for one in found])]
    by = seen.by
    cost = "–" if by.milliseconds_per_image is None else f"{by.milliseconds_per_image:.1f}"
    names = ", ".join(one.auto.head for one in found)
    seconds = np.mean([one.seconds for one in found])
    cells = (by.layers, by.views, by.width, cost, *shown, names, f"{seconds:.1f}")
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _print_auto(views: int, found: Sequence[Sequence[Found]]) -> None:
    """Of every seed the layers whose best head has the best figure in cross-validation."""
    best = [
        max(of, key=lambda one: one.auto.mean_class_accuracy) for of in zip(*found, strict=True)
    ]
    accuracy = spread_text(np.array([one.of_auto for one in best]))
    seconds = sum(one.seconds for of in found for one in of) / len(best)
    print(f"\nlayers auto, head auto, {views} views: {accuracy} %, {seconds:.1f} s to choose")


def _print_joint(splits: Splits) -> None:
    for name, joint in (("logistic regression", joint_logistic), ("linear SVM", joint_svm)):
        rows = [joint(_at_once(split), split) for split in splits]
        accuracy = spread_text(np.array([row.mean_class_accuracy for row in rows]))
        seconds = np.mean([row.seconds for row in rows])
        print(f"joint {name}: {accuracy} %, {seconds:.1f} s", flush=True)


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--train", type=int, required=True, help="images a class")
    parser.add_argument("--views", type=int, nargs="+", default=VIEWS)
    return parser.parse_args()


def _seen(options: argparse.Namespace, layers: str, views: int) -> tuple[Seen, Splits]:
    """The images as they are read, and those of every seed."""

    def of(data: str, scratch: Path) -> Seen:
        config = CompareConfig(
            data, image_size=options.image_size, layers=(layers,), views=(views,)
        )
        return features_of(config, scratch)

    with tempfile.TemporaryDirectory() as scratch:
        seen = of(options.data, Path(scratch) / "a")
        given = options.test_data
        tested = of(given, Path(scratch) / "b").examples if given else None
    return seen, [
        split_of(seen.examples, tested, options.train, options.test, seed)
        for seed in range(options.seeds)
    ]


def _measured(seen: Seen, split: Split) -> Found:
    start = time.process_time()
    with threadpool_limits(limits=1):
        chosen = chosen_head(seen.extractor, split.train)
    seconds = time.process_time() - start
    methods = [Method("merge", name) for name in dict.fromkeys((*SHOWN, chosen.head))]
    results = run(seen.extractor, _at_once(split), split, methods, EXEMPLARS)
    accuracy = {
        method.head: result.report.figures.mean_class_accuracy for method, result in results.items()
    }
    return Found(accuracy, chosen, seconds)


def _at_once(split: Split) -> Schedule:
    return (tuple(sorted(set(split.train.labels))),)


if __name__ == "__main__":
    main()
