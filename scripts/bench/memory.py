"""Measure the peak memory of `tlcli pretrain` over the number of images.

    python scripts/bench/memory.py --images 6000,60000

Draws small PNG files of noise in ten classes, no two alike, and runs the command on them with an
empty feature cache, each time in a process of its own. The backbone is prepared by a first run
that is not counted: that one imports TensorFlow, and its peak is in the first row.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10
SIDE = 28


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="6000,60000")
    parser.add_argument("--image-size", type=int, default=64, help="of the network")
    options = parser.parse_args()
    print("| images | seconds | peak MB |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        counts = [CLASSES * 20, *map(int, options.images.split(","))]
        for number, count in enumerate(counts):
            data = _draw(Path(scratch) / f"data{number}", count, seed=number)
            seconds, peak = _pretrain(data, Path(scratch), options.image_size)
            note = " (prepares the backbone)" if number == 0 else ""
            print(f"| {count}{note} | {seconds:.0f} | {peak:.0f} |", flush=True)


def _draw(folder: Path, count: int, seed: int) -> Path:
    generator = np.random.default_rng(seed)
    for index in range(count):
        path = folder / f"class{index % CLASSES}" / f"{index:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (SIDE, SIDE), np.uint8)
        pixels //= 1 + index % CLASSES
        Image.fromarray(pixels).save(path)
    return folder


def _pretrain(data: Path, scratch: Path, image_size: int) -> tuple[float, float]:
    """Seconds and peak resident megabytes of the command."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-m", "tlcli", "-q", "pretrain", str(data)]
    command += ["--out", str(scratch / f"run-{data.name}"), "--image-size", str(image_size)]
    environment = {**os.environ, "TLCLI_CACHE_DIR": str(scratch / "cache")}
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", code, *command],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.perf_counter() - start, float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
