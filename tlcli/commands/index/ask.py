"""index search, duplicates: what is like what."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlcli import images, retrieval, runs
from tlcli.config import DuplicatesConfig, IndexSearchConfig, Progress, no_progress
from tlcli.errors import BadImage
from tlcli.extractor import Extractor
from tlcli.images import ImageFile
from tlcli.retrieval import Hit, Index, Searcher, Space
from tlcli.retrieval.rows import Rows
from tlcli.urls import Place


@dataclass(frozen=True)
class Found:
    """The images that are most like one; or why there are none."""

    path: str
    hits: tuple[Hit, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One line of `index search --json`."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        return {"path": self.path, "neighbours": [_described(hit) for hit in self.hits]}


def _described(hit: Hit) -> dict[str, Any]:
    entry = hit.entry
    return {
        "path": entry.path,
        "label": entry.label,
        "similarity": hit.similarity,
        "sha256": entry.sha256,
    }


def search(config: IndexSearchConfig, progress: Progress = no_progress) -> Iterator[Found]:
    """The nearest images of files, folders, patterns and paths from standard input, in order.

    Raises:
        TlcliError: see errors.py.
    """
    images.require_paths(config.paths)
    run = runs.open_run(config.run)
    extractor = run.steadily(lambda: Extractor.of_round(run, run.round(), config.runs_on))
    with retrieval.open_index(config.run) as index:
        index.require_space(Space.of(extractor))
        searcher = Searcher.of(index, config.exact)
        for chunk in images.image_batches(config.paths, images.growing()):
            yield from _answers(config, chunk, extractor, searcher, progress)


def _answers(
    config: IndexSearchConfig,
    chunk: list[Place],
    extractor: Extractor,
    searcher: Searcher,
    progress: Progress,
) -> Iterator[Found]:
    keys = list(images.content_hashes(chunk))
    files = {
        key: ImageFile(path, key)
        for path, key in zip(chunk, keys, strict=True)
        if isinstance(key, str)
    }
    found = extractor.features(list(files.values()), progress)
    answers = searcher.search(searcher.index.descriptor.of(found.vectors[:]), config.count)
    hits = dict(zip(found.hashes, answers, strict=True))
    reasons = {image.sha256: reason for image, reason in found.refused}
    for path, key in zip(chunk, keys, strict=True):
        if isinstance(key, BadImage) or key in reasons:
            yield Found(str(path), error=str(key) if isinstance(key, BadImage) else reasons[key])
        else:
            near = (hit for hit in hits[key] if hit.similarity >= config.min_similarity)
            yield Found(str(path), tuple(near))


@dataclass(frozen=True)
class Pair:
    """Two images of the index that are nearly the same."""

    first: str
    second: str
    labels: tuple[str, str]
    similarity: float

    def to_json(self) -> dict[str, Any]:
        """One line of `index duplicates --json`."""
        return vars(self)


def duplicates(config: DuplicatesConfig, progress: Progress = no_progress) -> Iterator[Pair]:
    """Pairs of images at least so similar; each with each that comes later in the index.

    Raises:
        TlcliError: see errors.py.
    """
    runs.open_run(config.run)
    with retrieval.open_index(config.run) as index:
        blocks = [(rows, first) for rows in index.rows for first in rows.starts()]
        for done, (rows, first) in enumerate(blocks):
            progress("duplicates", done, len(blocks))
            for other, start in blocks[done:]:
                yield from _pairs(index, (rows, first), (other, start), config.min_similarity)


def _pairs(
    index: Index, left: tuple[Rows, int], right: tuple[Rows, int], least: float
) -> Iterator[Pair]:
    (rows, above), (others, beside) = left, right
    similarities = rows.block(above) @ others.block(beside).T
    alike = similarities >= least
    alike &= rows.live_in(above)[:, None] & others.live_in(beside)
    if left == right:
        alike = np.triu(alike, 1)
    for row, column in np.argwhere(alike):
        first = index.records.at(rows.id, above + int(row))
        second = index.records.at(others.id, beside + int(column))
        labels = (first.label, second.label)
        yield Pair(first.path, second.path, labels, float(similarities[row, column]))
