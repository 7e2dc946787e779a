"""The approximate index of all images: built, measured, published where it is good enough."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.config import Progress
from tlcli.errors import UsageError
from tlcli.retrieval.approximate import NEIGHBOURS, Approximate
from tlcli.retrieval.search import Searcher
from tlcli.retrieval.store import Index
from tlcli.retrieval.writer import IndexWriter

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

LEAST_RECALL = 0.95
"""Share of the ten true neighbours, on average, that an approximate index must find."""

QUERIES = 1000
"""Images whose neighbours are looked for to measure it."""

_ERRORS = 2.0
"""Standard errors by which what is measured on these has to be above the least recall."""

_TRAINED_PER_CELL = 40
_FIRST_CELLS = 8


def build(writer: IndexWriter, progress: Progress) -> float:
    """Make an approximate index of all images and publish it; its measured recall.

    Raises:
        UsageError: it finds too few of the true neighbours.
    """
    index = writer.index
    assert index is not None
    structure = _structure(index, progress)
    queries, truth = _questions(index)
    shares, cells = np.zeros(1), _FIRST_CELLS
    while _at_least(shares) < LEAST_RECALL and cells <= structure.nlist:
        structure.nprobe, cells = cells, 2 * cells
        shares = _shares(Approximate(index, structure, index.records.last()), queries, truth)
    recall = float(shares.mean())
    if recall < LEAST_RECALL:
        raise UsageError(
            f"Expected an approximate index that finds {LEAST_RECALL:.0%} of the neighbours. "
            f"Received: {recall:.1%}. It is not used; images are compared one by one."
        )
    import faiss

    content = faiss.serialize_index(structure).tobytes()
    facts = {"cells": structure.nprobe, "last": index.records.last(), "images": len(index)}
    facts |= {"recall": recall}
    writer.publish(content, {f"approximate_{name}": str(value) for name, value in facts.items()})
    return recall


def _structure(index: Index, progress: Progress) -> Any:
    """Trained on some rows, filled with all."""
    import faiss

    entries, width = index.records.entries(), index.descriptor.width
    cells = max(1, int(2 * np.sqrt(len(entries))))
    quantizer: Any = faiss.IndexFlatIP(width)
    structure: Any = faiss.IndexIVFScalarQuantizer(
        quantizer, width, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    structure.own_fields, _ = True, quantizer.this.disown()
    structure.cp.min_points_per_centroid = 1  # Fewer are no reason to print a warning.
    structure.train(_sample(index, _TRAINED_PER_CELL * cells))
    done = 0
    for block in index.live_blocks():
        ids = np.array([entry.id for entry in entries[done : done + len(block)]], np.int64)
        structure.add_with_ids(block, ids)
        done += len(block)
        progress("index", done, len(entries))
    return structure


def _sample(index: Index, most: int) -> Float32:
    """Some descriptors, spread evenly over all."""
    step = max(1, len(index) // most)
    rows, place = [], 0
    for block in index.live_blocks():
        rows.append(block[-place % step :: step])
        place += len(block)
    return np.concatenate(rows)


def measured_recall(approximate: Approximate) -> float:
    """Share of the true neighbours that an approximate index finds, on some of its images."""
    return float(_shares(approximate, *_questions(approximate.index)).mean())


def _at_least(shares: Float64) -> float:
    """The mean of all queries, as far as that of some tells it."""
    return float(shares.mean() - _ERRORS * shares.std() / np.sqrt(len(shares)))


def _questions(index: Index) -> tuple[Float32, list[list[int]]]:
    """Descriptors of some images, and the ids of their neighbours, the nearest first."""
    queries = _sample(index, QUERIES)[:QUERIES]
    return queries, _answers(Searcher(index, None), queries)


def _answers(searcher: Searcher, queries: Float32) -> list[list[int]]:
    """Without the first: an image finds itself, which a new one would not."""
    hits = searcher.search(queries, NEIGHBOURS + 1)
    return [[hit.entry.id for hit in answer[1:]] for answer in hits]


def _shares(approximate: Approximate, queries: Float32, truth: list[list[int]]) -> Float64:
    """Share of the true neighbours that are found, of each query."""
    found = _answers(Searcher(approximate.index, approximate), queries)
    shares = [len({*mine} & {*true}) / len(true) for mine, true in zip(found, truth, strict=True)]
    return np.array(shares)
