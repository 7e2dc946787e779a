"""Learned descriptors beside whitened and plain ones, on classes that nobody trained on.

    python scripts/bench/metric.py /tmp/metric caltech51 [--known 26]
    python scripts/bench/metric.py /tmp/metric-shop

Without a folder of class folders it draws a record shop (see record_shop.py): a run from six
photographs of each of 60 covers, and a cover with one photograph of it for each of 250 others.
With one, the first --known classes, sorted, make the run, and the others are looked for. For every
objective `tlcli finetune --objective` trains a projection on a copy of the run, and `tlcli evaluate
--retrieval` measures all descriptors. Prints Recall@1, MAP@R and the accuracy with one and
with five images a class, each with its 95 % bootstrap interval, and the differences.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import record_shop

OBJECTIVES = ("triplet", "multi-similarity", "proxy-anchor", "softmax-margin")
COVERS = 250
FIGURES = ("recall_at_1", "map_at_r", "one_shot", "five_shot")


def called(*arguments: object) -> dict[str, Any]:
    """A tlcli command in a process of its own."""
    command = [sys.executable, "-m", "tlcli", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return dict(json.loads(done.stdout))


def divide(images: Path, out: Path, known: int) -> None:
    """Link the class folders into two folders."""
    names = sorted(path.name for path in images.iterdir() if path.is_dir())
    for place, name in enumerate(names):
        part = out / ("known" if place < known else "others")
        part.mkdir(exist_ok=True)
        (part / name).symlink_to((images / name).resolve())


def draw_shop(out: Path) -> None:
    """Photographs of covers for the run, and covers with a photograph of each to be found."""
    for number in range(record_shop.OTHERS):
        for seed in range(record_shop.PHOTOGRAPHS):
            cover = record_shop.cover(10**6 + number)
            seen = record_shop.photograph(cover, 10**6 + number * record_shop.PHOTOGRAPHS + seed)
            _save(seen, out / "known" / f"other {number:03d}" / f"{seed}.jpg")
    for number in range(COVERS):
        cover, place = record_shop.cover(number), out / "others" / f"cover {number:03d}"
        _save(cover, place / "cover.png")
        _save(record_shop.photograph(cover, number), place / "photograph.jpg")


def _save(picture: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=80)


def measured(run: Path, others: Path, names: set[str]) -> None:
    """Print the figures of some kinds of descriptors of a run, and what they differ by."""
    answer = called("evaluate", run, others, "--retrieval")
    for entry in answer["descriptors"]:
        if entry["descriptor"] in names:
            figures = ", ".join(f"{name} {_share(entry[name])}" for name in FIGURES if entry[name])
            print(f"  {entry['descriptor']:9} {figures}")
    for entry in answer["differences"]:
        if entry["descriptor"] in names:
            figures = ", ".join(f"{name} {_points(entry[name])}" for name in FIGURES if entry[name])
            print(f"    less {entry['than']}: {figures}", flush=True)


def _share(figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['value']:.1%} ({low:.1%} to {high:.1%})"


def _points(figure: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in figure["interval"])
    return f"{100 * figure['value']:+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    """Measure every objective."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--known", type=int, default=26)
    options = parser.parse_args()
    out = options.out
    out.mkdir()
    if options.images is None:
        draw_shop(out)
    else:
        divide(options.images, out, options.known)
    called("pretrain", out / "known", "--out", out / "run", "--no-keras-model")
    measured(out / "run", out / "others", {"plain", "whitened"})
    for name in OBJECTIVES:
        run = Path(shutil.copytree(out / "run", out / name))
        try:
            answer = called("finetune", run, out / "known", "--objective", name)
        except subprocess.CalledProcessError as error:
            print(f"{name}: stopped with exit code {error.returncode}", flush=True)
            continue
        if not answer["changed"]:
            print(f"{name}: nothing was published", flush=True)
            continue
        training = answer["training"]
        best, seconds = training["best_epoch"], answer["seconds"]["training"]
        print(f"{name}: epoch {best} of {training['epochs']} is the best, {seconds:.0f} s")
        measured(run, out / "others", {"learned"})


if __name__ == "__main__":
    main()
