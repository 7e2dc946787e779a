"""predict: labels for images, as they come."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import heads, images, runs
from tlcli.config import PredictConfig, Progress, no_progress
from tlcli.errors import BadImage
from tlcli.heads import LinearHead
from tlcli.images import LabelledImage
from tlcli.stages import rounds
from tlcli.stages.lenses import Lens

CHUNK = 1024
"""Images that are read before the first of them is answered."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one file: the most probable classes, or why there is none."""

    path: str
    top: tuple[tuple[str, float], ...] = ()
    """(class name, probability), the most probable first."""
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The line that `predict --json` prints."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        label, probability = self.top[0]
        ranked = [{"label": name, "probability": value} for name, value in self.top]
        return {"path": self.path, "label": label, "probability": probability, "top": ranked}

    def to_text(self) -> str:
        """Label, probability and path, or the path and its error, with tabs between."""
        if self.error is not None:
            return f"–\t–\t{self.path}\t{self.error}"
        label, probability = self.top[0]
        return f"{label}\t{probability:.3f}\t{self.path}"


def predict(config: PredictConfig, progress: Progress = no_progress) -> Iterator[Prediction]:
    """Label files, folders and paths from standard input (`-`), in the order given.

    A file that cannot be read is answered with its error.

    Raises:
        TlcliError: the run cannot be used; see errors.py.
    """
    current = (run := runs.open_run(config.run)).round()
    rounds.require_classes(current)
    lens = Lens.of_round(run, current, config.engine)
    head = heads.load(current.file("head.h5"))
    paths = images.find_images(config.paths)
    while chunk := list(itertools.islice(paths, CHUNK)):
        yield from _predict_chunk(chunk, lens, head, config.top, progress)


def _predict_chunk(
    paths: Sequence[Path], lens: Lens, head: LinearHead, top: int, progress: Progress
) -> Iterator[Prediction]:
    hashes = list(images.content_hashes(paths))
    distinct = {
        sha256: LabelledImage(path, "", sha256)
        for path, sha256 in zip(paths, hashes, strict=True)
        if isinstance(sha256, str)
    }
    found = lens.features(list(distinct.values()), progress)
    unreadable = {entry.path: entry.reason for entry in found.skipped}
    probabilities = head.probabilities(lens.view(found.examples).vectors)
    row = {key: index for index, key in enumerate(found.hashes)}
    for path, sha256 in zip(paths, hashes, strict=True):
        if isinstance(sha256, BadImage):
            yield Prediction(str(path), error=str(sha256))
        elif sha256 in row:
            yield Prediction(str(path), _ranked(probabilities[row[sha256]], head, top))
        else:
            yield Prediction(str(path), error=unreadable[str(distinct[sha256].path)])


def _ranked(
    probabilities: NDArray[np.float64], head: LinearHead, top: int
) -> tuple[tuple[str, float], ...]:
    best = np.argsort(-probabilities, kind="stable")[:top]
    return tuple((head.classes[column], float(probabilities[column])) for column in best)
