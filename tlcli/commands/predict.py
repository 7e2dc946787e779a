"""predict: labels for images, as they come."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import images, retrieval, runs
from tlcli.config import Columns, PredictConfig, Progress, RunsOn, no_progress
from tlcli.errors import BadImage, UsageError, require_choice
from tlcli.extractor import Extractor
from tlcli.features import Matrix
from tlcli.heads import Classifier
from tlcli.images import ImageFile, Item, Tones
from tlcli.images.class_folders import copy_into, require_outside
from tlcli.retrieval import Neighbours, Searcher, Space
from tlcli.rounds.intake import require_classes, warn_of_tones
from tlcli.rounds.novelty import Judge, judge
from tlcli.rounds.parent import Parent, head_of
from tlcli.runs import Run
from tlcli.urls import Place

UNKNOWN = "unknown"
"""The answer where the most probable class is less probable than the threshold."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one image: the most probable classes, or why there is none."""

    path: str | None
    """None for an image that was given without one."""
    label: str | None = None
    """The most probable class, or `UNKNOWN`; None where there is an error."""
    top: tuple[tuple[str, float], ...] = ()
    """(class name, probability), the most probable first."""
    error: str | None = None
    copied_to: str | None = None
    """The copy in the folder of its class, where copies were asked for."""

    @property
    def probability(self) -> float | None:
        """Of the most probable class."""
        return self.top[0][1] if self.top else None

    def to_json(self) -> dict[str, Any]:
        """The line that `predict --json` prints."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        ranked = [{"label": name, "probability": value} for name, value in self.top]
        content = {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "top": ranked,
        }
        return content if self.copied_to is None else content | {"copied_to": self.copied_to}


@dataclass(frozen=True)
class Predictor:
    """A round that answers; its engine is opened at the first image and once."""

    extractor: Extractor
    """Behind the projection of the classifier's features, where it has one."""
    head: Classifier
    rule: Judge | None = None
    """Says which images are of no known class; None: every image is answered."""
    tones: Tones = field(default_factory=Tones)
    """Of the files that were decoded for its answers."""

    @staticmethod
    def of(run: Path, number: int | None, runs_on: RunsOn) -> "Predictor":
        """Open the given round of a run, or the current one.

        Raises:
            TlcliError: the run cannot be used; see errors.py.
        """
        opened = runs.open_run(run)
        return opened.steadily(lambda: Predictor._of_round(opened, number, runs_on))

    @staticmethod
    def _of_round(run: Run, number: int | None, runs_on: RunsOn) -> "Predictor":
        require_classes(entry := run.round(number))
        extractor = Extractor.of_round(run, entry, runs_on)
        return Predictor(extractor, head_of(entry, extractor))

    def require(self, top: int, threshold: float) -> None:
        """Refuse what no answer can be given for.

        Raises:
            UsageError: a number is out of its range, or a class is named like the answer
                `UNKNOWN`.
        """
        if top < 1 or not 0 <= threshold <= 1:
            raise UsageError(
                "Expected top of 1 or more, and a threshold from 0 to 1. Received: "
                f"top={top}, threshold={threshold}."
            )
        if (threshold > 0 or self.rule) and UNKNOWN in self.head.classes:
            raise UsageError(
                f"Expected a run without a class {UNKNOWN!r} for a threshold. Received: one that "
                "knows it. Leave the threshold out, and compare the probability."
            )

    def answers(
        self, items: Sequence[Item], top: int, threshold: float, progress: Progress
    ) -> Iterator[tuple[Prediction, str]]:
        """The answer and the content hash for each item, in order; "" for what is no image.

        Pixels have no content hash but a name; their features are computed each time.
        """
        keys = list(_keys(items))
        hashes, vectors, reasons = self._vectors(items, keys, progress)
        novel = self.rule.novel(vectors) if self.rule else np.zeros(len(hashes), bool)
        probabilities = self.head.softmax(self.head.logits(self.extractor.seen(vectors)))
        row = {key: index for index, key in enumerate(hashes)}
        for item, key in zip(items, keys, strict=True):
            path = str(item) if isinstance(item, Place) else None
            if isinstance(key, BadImage):
                yield Prediction(path, error=str(key)), ""
            elif key in reasons:
                yield Prediction(path, error=reasons[key]), ""
            else:
                ranked = _ranked(probabilities[row[key]], self.head, top)
                unknown = novel[row[key]] or ranked[0][1] < threshold
                yield Prediction(path, UNKNOWN if unknown else ranked[0][0], ranked), key

    def _vectors(
        self, items: Sequence[Item], keys: Sequence[str | BadImage], progress: Progress
    ) -> tuple[tuple[str, ...], Matrix, dict[str, str]]:
        """Keys of items, their features, and why others have none."""
        files, pixels = _told_apart(items, keys)
        found = self.extractor.features(list(files.values()), progress)
        self.tones.join(found.tones)
        reasons = {image.sha256: reason for image, reason in found.refused}
        if not pixels:
            return found.hashes, found.vectors, reasons
        vectors = self.extractor.features_of_pixels(np.stack(list(pixels.values())))
        return (*found.hashes, *pixels), found.vectors.joined(vectors), reasons


def predict(config: PredictConfig, progress: Progress = no_progress) -> Iterator[Prediction]:
    """Label files, folders, patterns and paths from standard input (`-`), in the order given.

    Paths are answered as they arrive: one that comes alone is not kept waiting for others. A file
    that cannot be read is answered with its error.

    Raises:
        TlcliError: the run cannot be used, or a copy cannot be made; see errors.py.
    """
    images.require_paths(config.paths)
    if config.copy_into is not None:
        require_outside(config.copy_into, (*config.paths, str(config.run)))
    with _predictor(config, progress) as predictor:
        predictor.require(config.top, config.threshold)
        for chunk in images.image_batches(config.paths, images.growing()):
            answers = predictor.answers(chunk, config.top, config.threshold, progress)
            for path, (answer, key) in zip(chunk, answers, strict=True):
                yield _copied(config, answer, path, key)
        warn_of_tones(predictor.tones)


@contextmanager
def _predictor(config: PredictConfig, progress: Progress) -> Iterator[Predictor]:
    """The head of the round, or the images of the index."""
    rule = _rule(config, progress)
    if config.by is None:
        yield replace(Predictor.of(config.run, config.round, config.runs_on), rule=rule)
        return
    require_choice("a way to answer", config.by, retrieval.BY)
    run = runs.open_run(config.run)
    extractor = run.steadily(
        lambda: Extractor.of_round(run, run.round(config.round), config.runs_on)
    )
    with retrieval.open_index(config.run) as index:
        index.require_space(Space.of(extractor))
        neighbours = Neighbours.of(Searcher.of(index, exact=False), config.by)
        yield Predictor(replace(extractor, projection=None), neighbours, rule)


def _rule(config: PredictConfig, progress: Progress) -> Judge | None:
    """What tells images of no known class, where that is asked for."""
    if config.unknown_at is None:
        return None
    parent = Parent.of(runs.open_run(config.run), config.runs_on)
    if config.round not in (None, parent.round.number):
        raise UsageError(
            f"Expected the current round with an unknown share. Received: round={config.round}. "
            "Leave --round or --unknown-at out."
        )
    return judge(parent, config.unknown_at, None, Columns(), progress)


def _copied(config: PredictConfig, answer: Prediction, path: Place, key: str) -> Prediction:
    """The answer once the image was copied, where that was asked for."""
    if config.copy_into is None or answer.label is None:
        return answer
    copy = copy_into(config.copy_into, answer.label, path, key)
    return replace(answer, copied_to=str(copy))


def _keys(items: Sequence[Item]) -> Iterator[str | BadImage]:
    """Yield what an item's features are known by: the hash of a file, the place of pixels."""
    paths = [item for item in items if isinstance(item, Place)]
    of_files = iter(list(images.content_hashes(paths)))
    for number, item in enumerate(items):
        if isinstance(item, Place):
            yield next(of_files)
        elif isinstance(item, bytes):
            yield sha256(item).hexdigest()
        else:
            yield item if isinstance(item, BadImage) else f"pixels {number}"


def _told_apart(
    items: Sequence[Item], keys: Sequence[str | BadImage]
) -> tuple[dict[str, ImageFile], dict[str, NDArray[np.uint8]]]:
    """The files to be decoded, each content once, and the pixels, by their keys."""
    files: dict[str, ImageFile] = {}
    pixels: dict[str, NDArray[np.uint8]] = {}
    for item, key in zip(items, keys, strict=True):
        if isinstance(key, BadImage):
            continue
        if isinstance(item, Place):
            files.setdefault(key, ImageFile(item, key))
        elif isinstance(item, bytes):  # rather than a file, which may be replaced meanwhile
            files[key] = ImageFile(Path(), key, item)
        elif isinstance(item, np.ndarray):
            pixels[key] = item
    return files, pixels


def _ranked(
    probabilities: NDArray[np.float64], head: Classifier, top: int
) -> tuple[tuple[str, float], ...]:
    best = np.argsort(-probabilities, kind="stable")[:top]
    return tuple((head.classes[column], float(probabilities[column])) for column in best)
