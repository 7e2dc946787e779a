"""Draw photographs down to 32 pixels and up to 96: the sharpness of CIFAR, other classes.

python scripts/bench/small.py caltech51 small
"""

import argparse
from pathlib import Path

from PIL import Image

CLASSES = 10
LOW, SIDE = (32, 32), (96, 96)


def main() -> None:
    """Read the arguments and write the largest classes of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with a folder a class")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    folders = [path for path in sorted(options.data.iterdir()) if path.is_dir()]
    for folder in sorted(folders, key=lambda of: -len(list(of.iterdir())))[:CLASSES]:
        (options.out / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir()):
            low = Image.open(path).convert("RGB").resize(LOW, Image.Resampling.BOX)
            low.resize(SIDE, Image.Resampling.BICUBIC).save(
                options.out / folder.name / f"{path.stem}.png"
            )


if __name__ == "__main__":
    main()
