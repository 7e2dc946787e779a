"""An index of a million: how long it takes to build, to ask, and to change, and what it finds.

    python scripts/bench/index_million.py [--images 1000000] [--width 256] [--days 30] [--churn 2]

Descriptors are drawn around centres of which each has a hundred images; questions are drawn around
the same centres. They go through the code of `tlcli index add`, `remove`, `search` and `optimize`,
without images and a backbone. Every question is also put to faiss' IndexFlatIP over the same rows:
its answers are the truth of recall@10. After a thousand images were added and removed again, every
day --churn percent of the images are replaced by others, and recall is measured.
"""

import argparse
import hashlib
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from tlcli import retrieval
from tlcli.commands.index.change import tidied
from tlcli.config import no_progress
from tlcli.features import Kind
from tlcli.retrieval import Descriptor, Hit, Searcher, Space
from tlcli.rounds.result import Phases

Float32 = NDArray[np.float32]

QUESTIONS, WANTED = 1000, 10
A_DAY = 200
"""Questions of a day."""
FEW = 1000
BLOCK = 1 << 16
PER_CENTRE = 100
SPREAD = 0.06
"""Standard deviation around a centre of length 1, in each direction."""


@dataclass(frozen=True, eq=False)
class Site:
    """A folder that has an index, and where its descriptors come from."""

    folder: Path
    centres: Float32

    @property
    def descriptor(self) -> Descriptor:
        """Plain, of the width of the centres."""
        return Descriptor("plain", self.centres.shape[1])

    def drawn(self, first: int, count: int) -> Float32:
        """The descriptors of the images from a number on, as the index rounds them."""
        rng = np.random.default_rng([1, first])
        chosen = self.centres[rng.integers(len(self.centres), size=count)]
        noise = rng.standard_normal(chosen.shape, np.float32)
        return self.descriptor.of(chosen + SPREAD * noise).astype(np.float16).astype(np.float32)

    def blocks(self, count: int) -> Iterator[Float32]:
        """Those of the first images."""
        for first in range(0, count, BLOCK):
            yield self.drawn(first, min(BLOCK, count - first))

    def add(self, first: int, count: int, blocks: Iterator[Float32]) -> None:
        """What `index add` does with descriptors."""
        with retrieval.writing(self.folder, 0) as writer:
            if writer.begun is None:
                space = Space("bench", Kind("none", "none"), self.centres.shape[1])
                writer.begin(space, self.descriptor)
            writer.add([image(number) for number in range(first, first + count)], blocks)
            tidied(writer, Phases(no_progress))

    def remove(self, numbers: Sequence[int]) -> None:
        """What `index remove` does with single images."""
        with retrieval.writing(self.folder, 0) as writer:
            writer.remove(writer.records.of_hashes(image(number)[0] for number in numbers))
            tidied(writer, Phases(no_progress))

    def found(self, questions: Float32) -> tuple[list[list[int]], NDArray[np.float64]]:
        """The numbers of the nearest images, and the milliseconds of each question."""
        answers, milliseconds = [], []
        with retrieval.open_index(self.folder) as index:
            searcher = Searcher.of(index, exact=False)
            assert searcher.approximate is not None
            for question in questions:
                start = time.perf_counter()
                (hits,) = searcher.search(question[None], WANTED)
                milliseconds.append(1000 * (time.perf_counter() - start))
                answers.append(numbers_of(hits))
        return answers, np.array(milliseconds)

    def found_together(self, questions: Float32) -> list[list[int]]:
        """The same of all questions at once, as `index search` asks them."""
        with retrieval.open_index(self.folder) as index:
            answers = Searcher.of(index, exact=False).search(questions, WANTED)
        return [numbers_of(hits) for hits in answers]


def numbers_of(hits: list[Hit]) -> list[int]:
    """The numbers of the images that were found."""
    return [int(hit.entry.path) for hit in hits]


def image(number: int) -> tuple[str, str, str]:
    """(content hash, class, path) of an imagined image."""
    key = hashlib.sha256(str(number).encode()).hexdigest()
    return key, f"class {number % 1000}", str(number)


def recall(found: list[list[int]], true: list[list[int]]) -> float:
    """Share of the true nearest that were found."""
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found, true, strict=True)]))


def asked_one_by_one(structure: Any, questions: Float32) -> tuple[Any, NDArray[np.float64]]:
    """The answers of faiss, and the milliseconds of each question."""
    answers, milliseconds = [], []
    for question in questions:
        start = time.perf_counter()
        answers.append(structure.search(question[None], WANTED)[1][0].tolist())
        milliseconds.append(1000 * (time.perf_counter() - start))
    return answers, np.array(milliseconds)


def times(name: str, milliseconds: NDArray[np.float64]) -> None:
    """Print percentiles."""
    middle, high = np.percentile(milliseconds, [50, 99])
    print(f"{name}: p50 {middle:.1f} ms, p99 {high:.1f} ms a question", flush=True)


def seconds_of(name: str, start: float) -> None:
    """Print how long something took."""
    print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)


def most_memory() -> str:
    """The largest memory of this process so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB"


def main() -> None:
    """Read the arguments, live through it, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--churn", type=float, default=2)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((options.images // PER_CENTRE, options.width), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), centres)
        build(site, options.images)
        questions = site.drawn(-1 % 2**40, QUESTIONS)
        compare(site, options.images, questions)
        few(site, options.images)
        days(site, options, questions[:A_DAY])


def build(site: Site, images: int) -> None:
    """Add all images, whereupon the approximate index is built."""
    start = time.perf_counter()
    site.add(0, images, site.blocks(images))
    seconds_of(f"{images} x {site.centres.shape[1]} added and indexed", start)
    size = sum(path.stat().st_size for path in (site.folder / "index").iterdir())
    print(f"on disk {size / 2**30:.2f} GB, memory at most {most_memory()}")


def compare(site: Site, images: int, questions: Float32) -> None:
    """The index beside the plain one of faiss."""
    start = time.perf_counter()
    with retrieval.open_index(site.folder) as index:
        Searcher.of(index, exact=False)
        seconds_of("opened for questions", start)
    found, milliseconds = site.found(questions)
    times("tlcli", milliseconds)
    flat: Any = faiss.IndexFlatIP(site.centres.shape[1])
    for block in site.blocks(images):
        flat.add(block)
    true, milliseconds = asked_one_by_one(flat, questions)
    times("faiss IndexFlatIP", milliseconds)
    print(f"recall@{WANTED} {recall(found, true):.4f}", flush=True)


def few(site: Site, images: int) -> None:
    """Add some images, and remove them again."""
    numbers = range(images, images + FEW)
    start = time.perf_counter()
    site.add(images, FEW, iter([site.drawn(images, FEW)]))
    seconds_of(f"{FEW} added", start)
    start = time.perf_counter()
    site.remove(numbers)
    seconds_of(f"{FEW} removed", start)


def days(site: Site, options: argparse.Namespace, questions: Float32) -> None:
    """Replace some images every day."""
    rng = np.random.default_rng(1)
    a_day = int(options.images * options.churn / 100)
    numbers = np.arange(options.images)
    rows = np.concatenate(list(site.blocks(options.images)))
    for day in range(1, options.days + 1):
        gone = rng.choice(len(numbers), a_day, replace=False)
        first = options.images + FEW + day * a_day
        start = time.perf_counter()
        site.remove(numbers[gone].tolist())
        rows[gone], numbers[gone] = site.drawn(first, a_day), np.arange(first, first + a_day)
        site.add(first, a_day, iter([rows[gone]]))
        seconds = time.perf_counter() - start
        _, true = faiss.knn(questions, rows, WANTED, metric=faiss.METRIC_INNER_PRODUCT)
        share = recall(site.found_together(questions), numbers[true].tolist())
        print(f"day {day:2}: {seconds:5.1f} s, recall@{WANTED} {share:.4f}", flush=True)
    print(f"memory at most {most_memory()}, of which the rows to compare with are the most")


if __name__ == "__main__":
    main()
