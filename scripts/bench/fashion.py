"""Write Fashion-MNIST as folders of PNG files: fashion/train and fashion/test.

apt-get install dataset-fashion-mnist
python scripts/bench/fashion.py fashion --first 20000
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = (
    *("tshirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
SIDE = 28
PARTS = {"train": "train", "test": "t10k"}


def main() -> None:
    """Read the arguments and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", type=Path, help="folder of the four idx files")
    parser.add_argument("--first", type=int, help="most images of each part; else all")
    options = parser.parse_args()
    source = options.source or next(Path("/usr/share").rglob("train-images-idx3-ubyte*")).parent
    for part, prefix in PARTS.items():
        labels = np.frombuffer(content(source, f"{prefix}-labels"), np.uint8, offset=8)
        pixels = np.frombuffer(content(source, f"{prefix}-images"), np.uint8, offset=16)
        labels, pixels = labels[: options.first], pixels.reshape(-1, SIDE, SIDE)[: options.first]
        for name in NAMES:
            (options.out / part / name).mkdir(parents=True, exist_ok=True)
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            path = options.out / part / NAMES[label] / f"{number:05d}.png"
            Image.fromarray(image).save(path)
        print(f"{options.out / part}: {len(labels)} images")


def content(source: Path, prefix: str) -> bytes:
    """The bytes of an idx file, compressed or not."""
    (path,) = source.glob(f"{prefix}*")
    return gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()


if __name__ == "__main__":
    main()
