"""An exported LiteRT file compared with the run that it came from, on labelled images.

python scripts/bench/int8.py run flowers.tflite splits/test.csv
"""

import argparse
import json
from pathlib import Path

import numpy as np

from tlcli import formats, heads, images, runs
from tlcli.config import RunsOn, no_progress
from tlcli.errors import BadImage
from tlcli.extractor import Extractor

SMALLEST = 1e-9
"""A probability below counts as this in the log loss."""


def main() -> None:
    """Print accuracy, log loss and agreement as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("data")
    options = parser.parse_args()
    current = (run := runs.open_run(options.run)).round()
    extractor, head = (
        Extractor.of_round(run, current, RunsOn()),
        heads.load(current.file("head.h5")),
    )
    listing = images.scan(options.data)
    found = extractor.features(listing.images, no_progress)
    expected = head.probabilities(extractor.project(found.examples).vectors)
    by_hash = {image.sha256: image for image in listing.images}
    decoded = images.decode_many(
        [by_hash[key] for key in found.hashes], extractor.stored.image_size
    )
    pixels = np.stack([image for image in decoded if not isinstance(image, BadImage)])
    received = formats.run("litert", options.model, pixels)
    truth = np.array([head.classes.index(label) for label in found.labels])
    print(
        json.dumps(
            {
                "images": len(truth),
                "bytes": options.model.stat().st_size,
                "agreement": float(np.mean(received.argmax(1) == expected.argmax(1))),
                "accuracy": {"run": accuracy(expected, truth), "file": accuracy(received, truth)},
                "log_loss": {"run": log_loss(expected, truth), "file": log_loss(received, truth)},
            }
        )
    )


def accuracy(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Share of images (n,) whose most probable class is the true one."""
    return float(np.mean(probabilities.argmax(axis=1) == truth))


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean of −log of the true class's probability."""
    right = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(right, SMALLEST)).mean())


if __name__ == "__main__":
    main()
