"""Descriptors on classes that nobody learned, and classes of one image.

    tlcli pretrain caltech51 --out all --memory features --no-keras-model
    python scripts/bench/neighbours.py all [RUN…] [--known 26] [--draws 20]

The first --known classes, sorted, give the moments that whiten. Of every image of the others its
nearest one among them is looked for: is it of the same class (Recall@1)? Then one image of each of
all classes, drawn at random, is all that is known; all others are asked for their class (accuracy,
mean over the classes). Intervals are percentiles of 2,000 bootstrap samples, of queries or of
draws; a difference is taken of the same queries, of the same draws.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import memory, moments, retrieval, runs
from tlcli.features import Examples, Kind
from tlcli.heads import Recipe
from tlcli.retrieval import Descriptor, Ground, Neighbours, Searcher, Space

Float64 = NDArray[np.float64]

BITS, SAMPLES = 12, 2000
HEADS = {"ncm": Recipe("ncm"), "ncm-cosine": Recipe("ncm-cosine"), "lda": Recipe("lda")}


@contextmanager
def indexed(descriptor: Descriptor, examples: Examples) -> Iterator[Searcher]:
    """An index of some images, as `tlcli index add` makes it; a path is the place of its image."""
    rows = descriptor.of(examples.vectors[:])
    keys = [hashlib.sha256(str(place).encode()).hexdigest() for place in range(len(rows))]
    images = [
        (key, label, str(place))
        for place, (key, label) in enumerate(zip(keys, examples.labels, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        with retrieval.writing(Path(folder), 0) as writer:
            writer.begin(
                Space("bench", Kind("none", "none"), examples.vectors.shape[1]), descriptor
            )
            writer.add(images, iter([rows]))
        with retrieval.open_index(Path(folder)) as index:
            yield Searcher.of(index, exact=True)


def recall(descriptor: Descriptor, examples: Examples) -> Float64:
    """For each image, whether the nearest other one is of its class: 1 or 0."""
    with indexed(descriptor, examples) as searcher:
        answers = searcher.search(descriptor.of(examples.vectors[:]), 2)
    nearest = (
        next(hit.entry.label for hit in hits if hit.entry.path != str(place))
        for place, hits in enumerate(answers)
    )
    return np.array([float(a == b) for a, b in zip(nearest, examples.labels, strict=True)])


def interval(values: Float64) -> tuple[float, float]:
    """The middle 95 % of the means of bootstrap samples."""
    rng = np.random.default_rng(0)
    means = [rng.choice(values, len(values)).mean() for _ in range(SAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def share(values: Float64) -> str:
    """A mean with its interval."""
    low, high = interval(values)
    return f"{values.mean():.1%} ({low:.1%} to {high:.1%})"


def points(values: Float64) -> str:
    """A mean difference with its interval."""
    low, high = interval(values)
    return f"{100 * values.mean():+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def unseen(examples: Examples, known: int) -> None:
    """Compare plain with whitened descriptors on the classes that are not among the first."""
    labels = np.array(examples.labels, object)
    learned = np.isin(labels, sorted(set(examples.labels))[:known])
    first, rest = examples.where(learned), examples.where(~learned)
    total = moments.of(first.vectors[:], first.labels, "bench", BITS)
    right = {
        name: recall(kind, rest)
        for name, kind in retrieval.possible(Ground(rest.vectors.shape[1], total, None)).items()
    }
    print(f"{known} classes with {len(first.labels)} images whiten; {len(rest.labels)} queries")
    for name, found in right.items():
        print(f"  {name:10} Recall@1 {share(found)}")
    print(f"  whitened - plain {points(right['whitened'] - right['plain'])}", flush=True)


def one_image(examples: Examples, draws: int) -> None:
    """Compare neighbours with heads that are solved from one image a class."""
    found: dict[str, list[float]] = {name: [] for name in ("neighbours", *HEADS)}
    for number in range(draws):
        drawn, rest = divided(examples, number)
        plain = Descriptor("plain", rest.vectors.shape[1])
        with indexed(plain, drawn) as searcher:
            asked = Neighbours.of(searcher, "neighbours")
            answers = asked.logits(rest.vectors).argmax(axis=1)
            predicted = np.array(asked.classes, object)[answers]
        found["neighbours"].append(accuracy(predicted, rest))
        total = moments.of(drawn.vectors[:], drawn.labels, "bench", BITS)
        for name, recipe in HEADS.items():
            predicted = np.array(recipe.solve(total).predict(rest.vectors[:]), object)
            found[name].append(accuracy(predicted, rest))
    print(f"one image of each of {len(set(examples.labels))} classes, {draws} draws")
    base = np.array(found["neighbours"])
    for name, values in found.items():
        difference = points(np.array(values) - base)
        print(f"  {name:10} {share(np.array(values))}   against neighbours {difference}")


def divided(examples: Examples, seed: int) -> tuple[Examples, Examples]:
    """One random image of each class, and all others."""
    labels = np.array(examples.labels, object)
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), np.bool_)
    for name in sorted(set(examples.labels)):
        chosen[rng.choice(np.flatnonzero(labels == name))] = True
    return examples.where(chosen), examples.where(~chosen)


def accuracy(predicted: NDArray[np.object_], rest: Examples) -> float:
    """The share of right answers, the mean over the classes."""
    true = np.array(rest.labels, object)
    right = predicted == true
    return float(np.mean([right[true == name].mean() for name in sorted(set(rest.labels))]))


def main() -> None:
    """Measure each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--known", type=int, default=26)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    for path in options.runs:
        entry = runs.open_run(path).round()
        kept = memory.load(entry).kept
        assert kept is not None, "a run with --memory features"
        print(f"{path}: {entry.manifest.backbone}")
        unseen(kept, options.known)
        one_image(kept, options.draws)


if __name__ == "__main__":
    main()
