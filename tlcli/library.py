"""tlcli from Python: open a run, ask it. Nothing here prints, exits or knows the command line."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tlcli import backbones, images, runs
from tlcli.commands.evaluate import evaluate
from tlcli.commands.predict import Prediction, Predictor
from tlcli.config import EvaluateConfig, no_progress
from tlcli.rounds.publication import write_model

__all__ = ["OpenRun", "Prediction"]


class OpenRun:
    """A round of a run that answers. Made by `tlcli.open_run`.

    What it has opened stays open: the second call of `predict` costs the images alone. A round
    that is committed meanwhile is not seen; open the run again.
    """

    def __init__(self, path: str | Path, round: int | None = None, engine: str = "auto") -> None:
        """See `tlcli.open_run`."""
        self.path = Path(path)
        self._entry = runs.open_run(self.path).round(round)
        self._engine = engine
        self._predictor = Predictor.of(self.path, self._entry.number, engine)

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
        self, paths: str | Path | Iterable[str | Path], top: int = 5, threshold: float = 0.0
    ) -> list[Prediction]:
        """Label image files; a file that cannot be read has its error in its answer.

        Args:
            paths: files, folders and patterns, as for `tlcli predict`; one, or several.
            top: how many classes each answer lists.
            threshold: probability (0 to 1) below which the label is "unknown".

        Returns:
            An answer for each file, in order.

        Raises:
            UsageError: `top` or `threshold` is out of its range.
            TlcliError: the run cannot be used; see errors.py.
        """
        self._predictor.require(top, threshold)
        given = [paths] if isinstance(paths, str | Path) else paths
        found = list(images.find_images(given))
        answers = self._predictor.answers(found, top, threshold, no_progress)
        return [answer for answer, _ in answers]

    def evaluate(self, data: str | Path, include_learned: bool = False) -> dict[str, Any]:
        """Measure the round on labelled images: the object that `tlcli evaluate --json` prints.

        Args:
            data: a folder of class folders, or a table with the columns path,label.
            include_learned: whether images that the run has learned are measured too.

        Raises:
            TlcliError: the run or the data cannot be used, or all images were learned; see
                errors.py.
        """
        config = EvaluateConfig(
            self.path,
            str(data),
            round=self.round,
            include_learned=include_learned,
            engine=self._engine,
        )
        return evaluate(config).to_json()

    def keras_model(self) -> Any:
        """The round as a `keras.Model`: raw RGB images (n, S, S, 3) in, probabilities (n, C) out.

        Imports TensorFlow, which takes seconds.

        Raises:
            RunError: the backbone's files are damaged.
        """
        extractor, head = self._predictor.extractor, self._predictor.head
        extractor.stored.verify()
        keras = backbones.keras_module()
        with tempfile.TemporaryDirectory() as folder:
            write_model(extractor, head, path := Path(folder) / "model.keras")
            return keras.saving.load_model(path, compile=False)
