"""What further layers and the mirror image are worth: every --layers and --views, with three heads.

    python scripts/bench/readings.py flowers128 --train 100 --image-size 128
    python scripts/bench/readings.py caltech51 --train 25 --test 15
    python scripts/bench/readings.py fashion/train --test-data fashion/test --train 500 \\
        --test 500 --image-size 96

For each seed, `--train` random images of every class are learned at once and all others are tested,
at most `--test` of a class; of --test-data where it is given. "auto" is the head that
cross-validation on the learned images prefers, as `tlcli pretrain --head auto`. The last column is
scikit-learn's logistic regression on the same images and features, with the best C of four in
threefold cross-validation, `--logistic` alone, as it takes minutes.

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
from tlcli.commands.compare.trials import run
from tlcli.config import CompareConfig
from tlcli.heads import HEADS

FROM_MOMENTS = [Method("merge", name) for name, row in HEADS.items() if row.solve]
SHOWN = ("lda", "ridge")
EXEMPLARS = 1


def main() -> None:
    """Print a row for every reading."""
    options = _options()
    heads = " | ".join((*SHOWN, "auto", *(("logistic regression",) if options.logistic else ())))
    print(f"| layers | views | width | ms | {heads} |")
    print("|---|---|---|---|" + "---|" * (len(heads.split("|"))))
    for layers, views in itertools.product(LAYERS, VIEWS):
        seen, found, chosen = _measured(options, layers, views)
        width, cost = seen.by.width, seen.by.milliseconds_per_image
        shown = " | ".join(
            f"{spread_text(np.array(column))} %" for column in zip(*found, strict=True)
        )
        told = f"auto: {', '.join(chosen)}"
        print(f"| {layers} | {views} | {width} | {cost} | {shown} |  {told}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--train", type=int, required=True, help="images a class")
    parser.add_argument("--test", type=int, help="most images a class that are tested")
    parser.add_argument("--test-data", metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--logistic", action="store_true")
    return parser.parse_args()


def _measured(
    options: argparse.Namespace, layers: str, views: int
) -> tuple[Seen, Sequence[Sequence[float]], Sequence[str]]:
    """The accuracies of every seed, and the heads that auto chose."""
    told = {"image_size": options.image_size, "layers": (layers,), "views": (views,)}
    with tempfile.TemporaryDirectory() as scratch:
        seen = features_of(CompareConfig(options.data, **told), Path(scratch) / "a")
        tested = None
        if options.test_data:
            given = CompareConfig(options.test_data, **told)
            tested = features_of(given, Path(scratch) / "b").examples
    planned = (tuple(sorted(set(seen.examples.labels))),)
    found, chosen = [], []
    for seed in range(options.seeds):
        split = split_of(seen.examples, tested, options.train, options.test, seed)
        results = run(seen.extractor, planned, split, FROM_MOMENTS, EXEMPLARS)
        rows = {
            method.head: result.report.figures.mean_class_accuracy
            for method, result in results.items()
        }
        with threadpool_limits(limits=1):
            head = chosen_head(seen.extractor, split.train)
        accuracies = [*(rows[name] for name in SHOWN), rows[head]]
        if options.logistic:
            accuracies.append(joint_logistic(planned, split).mean_class_accuracy)
        found.append(accuracies)
        chosen.append(head)
    return seen, found, chosen


if __name__ == "__main__":
    main()
