"""Ways to fine-tune side by side: seconds of processor time and of the clock, accuracy on a test.

    git worktree add --detach ../old 995a676
    python scripts/bench/frozen.py flowers128 --old ../old --ways "--cached-views 2" "--epochs 20"

A fifth of the images of each class is set aside for testing. Every way begins with a copy of the
same run; `--old`, the source of an earlier version, with one of its own making. Seconds are those
of the whole command `finetune`, in a process of its own; those of the processor say more where a
machine has other work. `--share` takes a part of the images, and `digits` as data the handwritten
digits that come with scikit-learn.
"""

import argparse
import os
import resource
import shlex
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from calling import tlcli
from finetune import split

HERE = Path(__file__).resolve().parents[2]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--old", type=Path, help="the source of an earlier version")
    parser.add_argument("--ways", nargs="*", default=[], help="options of finetune, each in quotes")
    parser.add_argument("--common", default="--unfreeze 3 --epochs 10", help="options of all ways")
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--image-size", default="224")
    parser.add_argument("--share", type=float, default=1.0, help="of the images of each class")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = digits(scratch / "digits") if str(options.data) == "digits" else options.data
        split(thinned(data, scratch / "data", options.share), scratch)
        os.environ["TLCLI_CACHE_DIR"] = str(scratch / "cache")
        os.environ["PYTHONSAFEPATH"] = "1"  # else the folder we are in comes before PYTHONPATH
        print(f"{options.data}, {options.backbone}, {options.image_size} pixels")
        print("\n| | processor s | s | test before | after |\n|---|---|---|---|---|", flush=True)
        network = ("--backbone", options.backbone, "--image-size", options.image_size)
        rows = [("as it was", "", options.old.resolve())] if options.old else []
        rows += [(way, way, HERE) for way in options.ways]
        for name, way, source in rows:
            words = shlex.split(f"{options.common} {way}")
            print(f"| {name} | {measured(scratch, network, words, source)} |", flush=True)


def measured(scratch: Path, network: Sequence[str], words: Sequence[str], source: Path) -> str:
    """Fine-tune a copy of the run that this source makes."""
    begun, run = scratch / f"run{source.name}", scratch / "tuned"
    train, test, path = scratch / "train", scratch / "test", {"PYTHONPATH": str(source)}
    if not begun.exists():
        tlcli("pretrain", train, "--out", begun, *network, **path)
    shutil.copytree(begun, run)
    began, before = time.monotonic(), processor_seconds()
    tlcli("finetune", run, train, *words, **path)
    used, passed = processor_seconds() - before, time.monotonic() - began
    rounds = tlcli("evaluate", run, test, **path)["rounds"]
    shutil.rmtree(run)
    accuracies = (f"{rounds[place]['accuracy']:.1%}" for place in (0, -1))
    return " | ".join((f"{used:.0f}", f"{passed:.0f}", *accuracies))


def processor_seconds() -> float:
    """Of all processes that have ended and were started here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def thinned(data: Path, folder: Path, share: float) -> Path:
    """A folder of links to a share of the images of each class."""
    for parent in sorted(path for path in data.iterdir() if path.is_dir()):
        found = sorted(parent.iterdir())
        chosen = np.random.default_rng(0).permutation(len(found))[: round(share * len(found))]
        (folder / parent.name).mkdir(parents=True)
        for place in chosen:
            (folder / parent.name / found[place].name).symlink_to(found[place].resolve())
    return folder


def digits(folder: Path) -> Path:
    """1797 handwritten digits, of 8 pixels, drawn larger."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    for place, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        (folder / f"digit{label}").mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * 15).astype(np.uint8)).resize(
            (96, 96), Image.Resampling.BICUBIC
        )
        image.save(folder / f"digit{label}" / f"{place:04d}.png")
    return folder


if __name__ == "__main__":
    main()
