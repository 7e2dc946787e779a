"""tlcli from Python: open a run, ask it. Nothing here prints, exits or knows the command line."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tlcli import backbones, heads, runs
from tlcli.commands.evaluate import evaluate
from tlcli.commands.predict import Prediction, Predictor
from tlcli.config import EvaluateConfig, RunsOn, no_progress
from tlcli.images import Given, Item, taken
from tlcli.rounds.publication import write_model

__all__ = ["Given", "OpenRun", "Prediction"]

MOST, MOST_BYTES = 1024, 128 * 2**20
"""Images that are answered together, and how many bytes of them are held."""


class OpenRun:
    """A round of a run that answers. Made by `tlcli.open_run`.

    What it has opened stays open: the second call of `predict` costs the images alone. A round
    that is committed meanwhile is not seen; open the run again. Threads may share it.
    """

    def __init__(self, path: str | Path, round: int | None = None, engine: str = "auto") -> None:
        """See `tlcli.open_run`."""
        self.path = Path(path)
        self._entry = runs.open_run(self.path).round(round)
        self._runs_on = RunsOn(engine)
        self._predictor = Predictor.of(self.path, self._entry.number, self._runs_on)

    @property
    def round(self) -> int:
        """The number of the round."""
        return self._entry.number

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the model's outputs."""
        return self._entry.classes

    @property
    def image_size(self) -> int:
        """Side of the images that the model takes, in pixels."""
        return self._predictor.extractor.stored.image_size

    def predict(
        self, images: Given | Iterable[Given], top: int = 5, threshold: float = 0.0
    ) -> list[Prediction]:
        """Label images; one that cannot be read has its error in its answer.

        Features of files are kept in the cache, those of pixels are not.

        Args:
            images: one, or an iterable of any mixture.
                Paths: files, folders and patterns, as for `tlcli predict`.
                A file's bytes, or a file that is open in binary mode.
                NumPy arrays of uint8: (H, W, 3) in RGB, (H, W, 4) with alpha, (H, W) in grey.
                PIL images.
            top: how many classes each answer lists.
            threshold: probability (0 to 1) below which the label is "unknown".

        Returns:
            An answer for each image, in order.

        Raises:
            UsageError: something is no image, or `top` or `threshold` is out of its range.
            TlcliError: the run cannot be used; see errors.py.
        """
        backbones.require_own_threads()  # before any lock that was held when the process was forked
        self._predictor.require(top, threshold)
        return [
            answer
            for batch in _batches(taken(images, self.image_size))
            for answer, _ in self._predictor.answers(batch, top, threshold, no_progress)
        ]

    def evaluate(self, data: str | Path, include_learned: bool = False) -> dict[str, Any]:
        """Measure the round on labelled images: the object that `tlcli evaluate --json` prints.

        Args:
            data: a folder of class folders, or a table with the columns path,label.
            include_learned: whether images that the run has learned are measured too.

        Raises:
            TlcliError: the run or the data cannot be used, or all images were learned; see
                errors.py.
        """
        backbones.require_own_threads()
        config = EvaluateConfig(
            self.path,
            str(data),
            round=self.round,
            include_learned=include_learned,
            runs_on=self._runs_on,
        )
        return evaluate(config).to_json()

    def keras_model(self) -> Any:
        """The round as a `keras.Model`: raw RGB images (n, S, S, 3) in, probabilities (n, C) out.

        Imports TensorFlow, which takes seconds.

        Raises:
            RunError: the backbone's files are damaged.
        """
        backbones.require_own_threads()
        extractor, head = self._predictor.extractor, heads.load(self._entry.file("head.h5"))
        extractor.stored.verify()
        keras = backbones.keras_module()
        with tempfile.TemporaryDirectory() as folder:
            write_model(extractor, head, path := Path(folder) / "model.keras")
            return keras.saving.load_model(path, compile=False)


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Yield the items in lists that are not too large for memory."""
    batch: list[Item] = []
    held = 0
    for item in items:
        batch.append(item)
        held += _bytes_of(item)
        if len(batch) == MOST or held >= MOST_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _bytes_of(item: Item) -> int:
    if isinstance(item, np.ndarray):
        return item.nbytes
    return len(item) if isinstance(item, bytes) else 0
