"""What further layers and the mirror image are worth: every --layers and --views.

    python scripts/bench/readings.py flowers128 --train 100 --image-size 128
    python scripts/bench/readings.py caltech51 --train 25 --test 15
    python scripts/bench/readings.py fashion/train --test-data fashion/test --train 500 \\
        --test 500 --image-size 96

For each seed, `--train` random images of every class are learned at once and all others are tested,
at most `--test` of a class; of --test-data where it is given. With --auto the last column is the
head that cross-validation on the learned images prefers, as `tlcli pretrain --head auto`, which
takes minutes. With --logistic the last line is scikit-learn's logistic regression on the features
of the first, with the best C of four in threefold cross-validation.

The table has the mean of the classes' accuracies ± the standard deviation over the seeds, the width
of the features and the milliseconds that those of one image take here.
"""

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from incremental import chosen_head, features_of, joint_logistic, split_of, spread_text
from threadpoolctl import threadpool_limits

from tlcli.backbones import LAYERS, VIEWS
from tlcli.commands.compare.command import Seen
from tlcli.commands.compare.methods import Method
from tlcli.commands.compare.schedule import Schedule
from tlcli.commands.compare.trials import Split, run
from tlcli.config import CompareConfig
from tlcli.heads import HEADS

FROM_MOMENTS = [Method("merge", name) for name, row in HEADS.items() if row.solve]
SHOWN = ("lda", "ridge")
EXEMPLARS = 1

Splits = Sequence[Split]


def main() -> None:
    """Print a row for every reading."""
    options = _options()
    heads = (*SHOWN, *(("auto",) if options.auto else ()))
    print(f"| layers | views | width | ms | {' | '.join(heads)} |")
    print("|---|---|---|---|" + "---|" * len(heads))
    first: Splits = ()
    for layers, views in itertools.product(LAYERS, VIEWS):
        seen, splits = _seen(options, layers, views)
        first = first or splits
        found, chosen = zip(
            *(_measured(seen, split, options.auto) for split in splits), strict=True
        )
        shown = " | ".join(f"{spread_text(column)} %" for column in np.array(found).T)
        cost = f"{seen.by.width} | {seen.by.milliseconds_per_image}"
        print(
            f"| {layers} | {views} | {cost} | {shown} {', '.join(filter(None, chosen))} |",
            flush=True,
        )
    if options.logistic:
        rows = [joint_logistic(_at_once(split), split).mean_class_accuracy for split in first]
        print(f"\nlogistic regression: {spread_text(np.array(rows))} %")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--train", type=int, required=True, help="images a class")
    parser.add_argument("--test", type=int, help="most images a class that are tested")
    parser.add_argument("--test-data", metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--auto", action="store_true")
    parser.add_argument("--logistic", action="store_true")
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


def _measured(seen: Seen, split: Split, auto: bool) -> tuple[list[float], str]:
    """The accuracies of the heads, and the head that auto chose."""
    methods = [method for method in FROM_MOMENTS if auto or method.head in SHOWN]
    results = run(seen.extractor, _at_once(split), split, methods, EXEMPLARS)
    found = {
        method.head: result.report.figures.mean_class_accuracy for method, result in results.items()
    }
    shown = [found[name] for name in SHOWN]
    if not auto:
        return shown, ""
    with threadpool_limits(limits=1):
        chosen = chosen_head(seen.extractor, split.train)
    return [*shown, found[chosen]], chosen


def _at_once(split: Split) -> Schedule:
    return (tuple(sorted(set(split.train.labels))),)


if __name__ == "__main__":
    main()
