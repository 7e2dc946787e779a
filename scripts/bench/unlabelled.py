"""What images without labels teach: SimCLR against random features and against few labels alone.

    python scripts/bench/unlabelled.py caltech51 --image-size 64 --epochs 20

Of each class the first five images by name are labelled and the next 15 are for testing; all but
the test images are given to SimCLR without labels. The rows are one network, a linear head on its
features solved from the labelled images:

    random features     random weights; BatchNormalization has seen the images
    SimCLR              trained on the images without labels
    labels alone        the whole network trained from random weights on the labelled images
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from calling import tlcli

LABELLED, TESTED = 5, 15


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--image-size", default="64")
    parser.add_argument("--epochs", default="20")
    parser.add_argument("--batch-size", default="128")
    parser.add_argument("--lr", default="0.003")
    parser.add_argument("--supervised-epochs", default="150")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _divide(options.data, folder)
        network = ["--backbone", options.backbone, "--image-size", options.image_size]
        network += ["--weights", "none"]
        simclr = ["--objective", "simclr", "--batch-size", options.batch_size]
        still = ["--epochs", "1", "--lr", "1e-12"]
        moving = ["--epochs", options.epochs, "--lr", options.lr]
        print("| | accuracy | seconds of training |\n|---|---|---|", flush=True)
        for name, how in (("random features", still), ("SimCLR", moving)):
            run = folder / name
            made = tlcli("pretrain", folder / "unlabelled", "--out", run, *network, *simclr, *how)
            tlcli("extend-classes", run, folder / "labelled")
            _print(name, made, tlcli("evaluate", run, folder / "test"))
        run = folder / "labels alone"
        how = ["--epochs", options.supervised_epochs, "--patience", options.supervised_epochs]
        made = tlcli("pretrain", folder / "labelled", "--out", run, *network, *how)
        _print("labels alone", made, tlcli("evaluate", run, folder / "test"))


def _divide(data: Path, folder: Path) -> None:
    for source in sorted(path for path in data.iterdir() if path.is_dir()):
        for place, image in enumerate(sorted(source.iterdir())):
            labelled, tested = place < LABELLED, LABELLED <= place < LABELLED + TESTED
            parts = ["test"] if tested else ["unlabelled"] + ["labelled"] * labelled
            for part in parts:
                target = folder / part / source.name / image.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(image.resolve())


def _print(name: str, made: dict[str, Any], report: dict[str, Any]) -> None:
    seconds = made["seconds"]["training"]
    print(f"| {name} | {report['accuracy']:.1%} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
