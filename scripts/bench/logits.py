"""The cost of logits that have the same bits everywhere, against a plain product in float32.

    python scripts/bench/logits.py

Prints seconds, the ratio, and how far each is from the product in float64.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tlcli.heads import LinearHead


def timed(compute: Callable[[], NDArray[np.float32]]) -> tuple[float, NDArray[np.float32]]:
    """Return the least seconds of five runs, and the result."""
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        result = compute()
        taken.append(time.perf_counter() - start)
    return min(taken), result


def main() -> None:
    """Read the arguments and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--width", type=int, default=1280, help="of a feature vector")
    asked = parser.parse_args()
    random = np.random.RandomState(0)
    features = np.maximum(random.normal(size=(asked.images, asked.width)), 0).astype(np.float32)
    weights = random.normal(size=(asked.width, asked.classes)).astype(np.float32)
    names = tuple(f"class {column}" for column in range(asked.classes))
    head = LinearHead(names, weights, np.zeros(asked.classes, np.float32))
    plain, of_plain = timed(lambda: features @ weights)
    fixed, of_fixed = timed(lambda: head.logits(features))
    some = slice(500)
    exact = features[some].astype(np.float64) @ weights.astype(np.float64)
    for name, seconds, result in (("float32", plain, of_plain), ("fixed", fixed, of_fixed)):
        error = np.abs(result[some] - exact).max() / exact.std()
        print(f"{name}: {seconds:.3f} s, error at most {error:.1e} of the spread of the logits")
    print(f"ratio: {fixed / plain:.1f}")


if __name__ == "__main__":
    main()
