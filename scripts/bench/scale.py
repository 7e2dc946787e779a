"""Fit what images cost to measurements on this machine, and simulate many of them on many workers.

    python scripts/bench/scale.py run flowers128

Measured: processor seconds and bytes of an image, and what a shard of some width, classes and
images costs to write, to read and to merge. Fitted: each of these as a line through the sizes it
depends on, with the largest error. Simulated: shards that idle workers take in turn, workers that
fail at random and come back, against the closed form of the same.
"""

import argparse
import hashlib
import heapq
import math
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import images, memory, moments, runs
from tlcli.config import RunsOn
from tlcli.extractor import Extractor
from tlcli.features import Kind, compute
from tlcli.memory import Memory

SHAPES = (
    *((768, 10, 1000), (768, 1000, 10000)),
    *((1280, 10, 1000), (1280, 1000, 1000), (1280, 10, 100000), (1280, 1000, 30000)),
    *((2048, 10, 1000), (2048, 1000, 10000), (2048, 100, 100000)),
)
"""(D, C, images) of the shards that are measured."""

IMAGES, WORKERS, CORES = 10**9, 1000, 4
"""What is simulated."""

FAILURE_HOURS = (24.0, 1.0)
"""Of work after which a worker fails, on average."""

RESTART_SECONDS = 120.0

HOUR = 3600.0


@dataclass(frozen=True)
class Shard:
    """What a shard cost."""

    width: int
    classes: int
    images: int
    bytes: int
    merge_seconds: float
    """Of the processor: to read the file, to compare its checksum, to add its moments to others."""


@dataclass(frozen=True)
class Line:
    """A cost as a sum of sizes, each with its own price."""

    terms: tuple[str, ...]
    prices: tuple[float, ...]
    error: float
    """The largest, as a share of what was measured."""

    def __str__(self) -> str:
        parts = zip(self.prices, self.terms, strict=True)
        return " + ".join(f"{price:.3g}·{term}" for price, term in parts)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TLCLI_CACHE_DIR"] = cache
        seconds = _measure_images(options.run, options.data, options.images)
    shards = [_measured(*shape) for shape in SHAPES]
    sizes = [(s.width * (s.width + 1) / 2 + s.classes * s.width, s.images) for s in shards]
    size = _fitted("bytes", sizes, [s.bytes for s in shards])
    merging = _fitted("seconds to merge", sizes, [s.merge_seconds for s in shards])
    _measure_ledger()
    for hours in FAILURE_HOURS:
        _simulate(seconds, merging, size, hours)


def _measure_images(run: Path, data: Path, most: int) -> float:
    """Processor seconds of an image."""
    opened = runs.open_run(run)
    extractor = Extractor.of_round(opened, opened.round(), RunsOn())
    begun = time.process_time()
    listed = images.scan(str(data)).images
    scanned = (time.process_time() - begun) / len(listed)
    wanted = listed[:: max(1, len(listed) // most)][:most]
    engine = extractor.engines[0].open()
    compute(wanted[:64], extractor.square, engine)
    begun = time.process_time()
    compute(wanted, extractor.square, engine)
    seconds = (time.process_time() - begun) / len(wanted)
    size = sum(Path(str(image.path)).stat().st_size for image in wanted) / len(wanted)
    print(f"images a second and core: {1 / seconds:.0f}; to find and hash: {1 / scanned:.0f}")
    print(f"bytes of an image: {size:.0f} of its file, {4 * extractor.width} of its features")
    return seconds + scanned


def _measured(width: int, classes: int, count: int) -> Shard:
    content, total = _shard(width, classes, count)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "shard.h5"
        memory.save_file(content, path)
        merging = _least(lambda: _merge(total, path))
        return Shard(width, classes, count, path.stat().st_size, merging)


def _merge(total: moments.Moments, path: Path) -> None:
    found = memory.load_file(path).moments
    assert found is not None
    moments.add(total, found)


def _shard(width: int, classes: int, count: int) -> tuple[Memory, moments.Moments]:
    """A shard of images without pixels: the arithmetic of moments takes no other time on them."""
    generator = np.random.default_rng(0)
    names = tuple(f"class {number:06d}" for number in range(classes))
    gram = generator.integers(0, 2**40, (width, width))
    total = moments.Moments(
        "bench",
        13,
        names,
        np.full(classes, max(1, count // classes)),
        generator.integers(0, 2**40, (classes, width)),
        gram + gram.T,
    )
    ledger = {_hash(place): names[place % classes] for place in range(max(count, classes))}
    return Memory("moments", ledger, total, True, frozenset({Kind("bench", "bench")})), total


def _hash(place: int) -> str:
    return hashlib.sha256(str(place).encode()).hexdigest()


def _least(act: Callable[[], object], repeats: int = 3) -> float:
    """Processor seconds, without what disturbances add."""
    found = []
    for _ in range(repeats):
        begun = time.process_time()
        act()
        found.append(time.process_time() - begun)
    return min(found)


def _fitted(name: str, sizes: Sequence[tuple[float, float]], found: Sequence[float]) -> Line:
    """Least squares of relative errors."""
    measured = np.array(found)
    rows: NDArray[np.float64] = np.array([(1.0, *entry) for entry in sizes])
    prices = np.linalg.lstsq(rows / measured[:, None], np.ones(len(found)), rcond=None)[0]
    error = float(np.abs(rows @ prices / measured - 1).max())
    line = Line(("1", "numbers", "images"), tuple(map(float, prices)), error)
    print(f"{name} of a shard: {line}; largest error {error:.0%}")
    return line


def _cost(line: Line, numbers: float, count: float) -> float:
    return float(np.dot(line.prices, (1.0, numbers, count)))


def _measure_ledger(count: int = 100_000) -> None:
    tracemalloc.start()
    ledger = {_hash(place): "class" for place in range(count)}
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"bytes of memory for an image in a ledger: {taken / len(ledger):.0f}")


def _simulate(image_seconds: float, merging: Line, size: Line, failure_hours: float) -> None:
    """Print a row for each size of shards, at D = 1280 and 1000 classes."""
    numbers = 1280 * 1281 / 2 + 1000 * 1280
    print(f"\nA worker fails after {failure_hours:.0f} hours of work, on average.")
    print("\n| images a shard | shards | hours | by the model | work lost | GB | hours to merge |")
    print("|---|---|---|---|---|---|---|")
    for count in (10**3, 10**4, 10**5, 10**6):
        shards = IMAGES // count
        seconds = count * image_seconds / CORES
        simulated, lost = simulated_hours(shards, seconds, failure_hours)
        modelled = modelled_hours(shards, seconds, failure_hours)
        hours = shards * _cost(merging, numbers, count) / HOUR
        print(
            f"| {count:,} | {shards:,} | {simulated:.2f} | {modelled:.2f} | "
            f"{lost:.1%} | {shards * _cost(size, numbers, count) / 1e9:,.0f} | {hours:.1f} |"
        )


def modelled_hours(shards: int, seconds: float, failure_hours: float) -> float:
    """The expected time of shards that are begun anew when their worker fails.

    A shard of t seconds on a worker that fails at rate λ and is away for R seconds takes
    (e^(λt) - 1)(1/λ + R) on average. At the end the unluckiest is waited for: one of W shards is
    lost k = ⌊ln W / ln 1/p⌋ times, p = 1 - e^(-λt), each time after half of its work.
    """
    rate = 1 / (failure_hours * HOUR)
    each = math.expm1(rate * seconds) * (1 / rate + RESTART_SECONDS)
    unlucky = math.floor(math.log(WORKERS) / -math.log(-math.expm1(-rate * seconds)))
    return (shards / WORKERS * each + unlucky * seconds / 2) / HOUR


def simulated_hours(shards: int, seconds: float, failure_hours: float) -> tuple[float, float]:
    """Hours until the last shard is done, and the share of the work that was done in vain.

    A shard that was lost is taken by the next worker that is free.
    """
    generator = np.random.default_rng(0)
    scale = failure_hours * HOUR
    fails = generator.exponential(scale, WORKERS)  # after so much more work
    idle = list(range(WORKERS))
    events: list[tuple[float, int, bool]] = []
    waiting, done, lost, now = shards, 0, 0.0, 0.0
    while done < shards:
        while waiting and idle:
            worker, waiting = idle.pop(), waiting - 1
            heapq.heappush(events, (now + min(seconds, fails[worker]), worker, True))
        now, worker, worked = heapq.heappop(events)
        if worked and fails[worker] < seconds:
            lost, waiting = lost + fails[worker], waiting + 1
            fails[worker] = generator.exponential(scale)
            heapq.heappush(events, (now + RESTART_SECONDS, worker, False))
            continue
        if worked:
            fails[worker] -= seconds
            done += 1
        idle.append(worker)
    return now / HOUR, lost / (lost + shards * seconds)


if __name__ == "__main__":
    main()
