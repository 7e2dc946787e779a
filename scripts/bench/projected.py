"""Heads on plain and on learned features, where classes were added that the projection never saw.

    python scripts/bench/projected.py /tmp/projected caltech51 [--known 26] [--added 5]

Every fifth image of each class is set aside. The others of the first --known classes, sorted, train
a projection with `tlcli finetune --objective … --into-backbone`, and a head; --added images of each
other class are added to it with `tlcli extend-classes`. Prints a Markdown table of the accuracy on
the images set aside, of the known and of the added classes, and of the difference on all of them
from the same head on plain features, with its 95 % bootstrap interval; and the same of the first
256 principal components of plain features.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from calling import tlcli

from tlcli import images, memory, moments, runs
from tlcli.config import RunsOn, no_progress
from tlcli.extractor import Extractor
from tlcli.features import Vectors
from tlcli.heads import Recipe
from tlcli.training.metric import WIDTH

OBJECTIVES = ("triplet", "multi-similarity", "proxy-anchor", "softmax-margin")
HEADS = ("lda", "ridge")


def divide(images: Path, out: Path, known: int, added: int) -> None:
    """Link the images into `known`, `added` and `test`."""
    names = sorted(path.name for path in images.iterdir() if path.is_dir())
    for place, name in enumerate(names):
        paths = sorted((images / name).iterdir())
        learned = [path for number, path in enumerate(paths) if number % 5]
        part = "known" if place < known else "added"
        parts = {part: learned if place < known else learned[:added], "test": paths[::5]}
        for folder, chosen in parts.items():
            (out / folder / name).mkdir(parents=True)
            for path in chosen:
                (out / folder / name / path.name).symlink_to(path.resolve())


def measured(out: Path, features: str, weights: tuple[object, ...]) -> None:
    """A row of the table for each head."""
    for head in HEADS:
        run, plain = out / f"{features}-{head}", out / f"plain-{head}"
        options = ("--head", head, "--no-keras-model")
        tlcli("pretrain", out / "known", "--out", run, *options, *weights)
        tlcli("extend-classes", run, out / "added", "--no-keras-model")
        against = () if run == plain else ("--against", plain)
        answer = tlcli("evaluate", run, out / "test", *against)
        cells = [f"{answer[key]:.1%}" for key in ("accuracy", "old_accuracy", "new_accuracy")]
        cells.append(_points(answer["against"]) if against else "")
        print(f"| {features} | {head} | {' | '.join(cells)} |", flush=True)


def components(out: Path) -> None:
    """The same of as many principal components of plain features, which nothing has learned."""
    run = runs.open_run(out / "plain-lda")
    kept = memory.load(run.round()).kept
    assert kept is not None, "it was made with --memory features"
    extractor = Extractor.of_round(run, run.round(), RunsOn())
    test = extractor.features(images.scan(str(out / "test")).images, no_progress).examples
    mean = kept.vectors[:].mean(axis=0)
    _, _, directions = np.linalg.svd(kept.vectors[:] - mean, full_matrices=False)
    learned, tested = ((part.vectors[:] - mean) @ directions[:WIDTH].T for part in (kept, test))
    true, new = np.array(test.labels, object), {path.name for path in (out / "added").iterdir()}
    added = np.isin(true, list(new))
    total = moments.of(Vectors.of(learned), kept.labels, "", extractor.bits)
    for head in HEADS:
        right = Recipe(head).solve(total).predict(tested) == true
        cells = [f"{shares.mean():.1%}" for shares in (right, right[~added], right[added])]
        print(f"| {WIDTH} components | {head} | {' | '.join(cells)} | |", flush=True)


def _points(found: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in found["interval"])
    return f"{100 * found['difference']:+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    """Measure every objective."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--known", type=int, default=26)
    parser.add_argument("--added", type=int, default=5)
    parser.add_argument("--objectives", nargs="*", default=OBJECTIVES)
    options = parser.parse_args()
    out = options.out
    out.mkdir()
    divide(options.images, out, options.known, options.added)
    print("| features | head | all | known | added | difference in points |")
    print(f"|{'---|' * 6}")
    measured(out, "plain", ("--memory", "features"))
    components(out)
    for name in options.objectives:
        run = Path(shutil.copytree(out / "plain-lda", out / name))
        tlcli("rounds", "rollback", run, "--to", 1)
        options_of = ("--objective", name, "--into-backbone", "--no-keras-model")
        if tlcli("finetune", run, out / "known", *options_of)["changed"]:
            measured(out, f"`{name}`", ("--weights", run))
        else:
            print(f"{name}: nothing was published", flush=True)


if __name__ == "__main__":
    main()
