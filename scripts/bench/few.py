"""Heads solved from one, two, … images a class: which is right most often on all other images.

    tlcli pretrain caltech51 --out all --memory features --no-keras-model
    python scripts/bench/few.py all --images 1 2 3 4 5 8 --draws 10

The images of each draw are taken at random from the features that the run keeps; the head is tested
on those that were not drawn. Prints a Markdown table of mean accuracies, with the standard
deviation over the draws.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tlcli import memory, moments, runs
from tlcli.features import Examples
from tlcli.heads import Recipe

BITS = 12
RECIPES = {
    "lda": Recipe("lda"),
    "lda, oas": Recipe("lda", shrinkage="oas"),
    "ridge": Recipe("ridge"),
    "ncm": Recipe("ncm"),
    "ncm-cosine": Recipe("ncm-cosine"),
    "softmax": Recipe("softmax"),
}


def draws(examples: Examples, count: int, times: int) -> Iterator[tuple[Examples, Examples]]:
    """Yield `count` random images of each class, and all others."""
    labels = np.array(examples.labels, object)
    rng = np.random.default_rng(count)
    for _ in range(times):
        chosen = np.zeros(len(labels), np.bool_)
        for name in sorted(set(labels)):
            chosen[rng.choice(np.flatnonzero(labels == name), count, replace=False)] = True
        yield examples.where(chosen), examples.where(~chosen)


def accuracy(recipe: Recipe, drawn: Examples, rest: Examples) -> float:
    """Return the share of right answers, the mean over the classes."""
    if recipe.from_moments:
        head = recipe.solve(moments.of(drawn.vectors[:], drawn.labels, "bench", BITS))
    else:
        head = recipe.fit(drawn)
    true = np.array(rest.labels, object)
    right = head.predict(rest.vectors[:]) == true
    return float(np.mean([right[true == name].mean() for name in sorted(set(true))]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 2, 3, 4, 5, 8])
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    kept = memory.load(runs.open_run(options.run).round()).kept
    assert kept is not None, "a run with --memory features"
    print(f"| images a class | {' | '.join(RECIPES)} |\n|{'---|' * (len(RECIPES) + 1)}")
    for count in options.images:
        found = [
            [accuracy(recipe, *draw) for recipe in RECIPES.values()]
            for draw in draws(kept, count, options.draws)
        ]
        cells = [
            f"{mean:.1%} ± {spread:.1%}"
            for mean, spread in zip(np.mean(found, axis=0), np.std(found, axis=0), strict=True)
        ]
        print(f"| {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
