"""--layers auto: the outputs of a network whose head is best in cross-validation."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tlcli import backbones, evaluation
from tlcli.backbones import Random
from tlcli.config import AUTO, Progress, RunsOn
from tlcli.errors import DataError, UsageError
from tlcli.extractor import Extractor
from tlcli.features import Examples
from tlcli.images import LabelledImage, some_of_each
from tlcli.rounds.backbone import Beginning
from tlcli.rounds.selection import NOTHING_TO_COMPARE_ON, Choice

MOST_IMAGES = 2000
"""That are looked at to choose: with more of them it takes minutes before the first is learned."""

_LEAST_EACH = 2
"""Images of a class, of very many classes."""

Chosen = Callable[[Extractor, Examples], Choice]
"""The head that was asked for, or the best, and its answers about held-out images."""


@dataclass(frozen=True)
class Tried:
    """A reading that was tried."""

    layers: str
    """A row of `backbones.LAYERS`."""
    width: int
    """Of the features: memory grows with its square."""
    head: str
    accuracy: float
    """In cross-validation."""
    mean_class_accuracy: float
    milliseconds_per_image: float | None
    """Of the features; None where all of them were cached."""
    seconds: float
    """Of the features and the heads."""


@dataclass(frozen=True, eq=False)
class Readings:
    """The best reading, and what it was compared to."""

    begins: Beginning
    tried: tuple[Tried, ...] = ()
    """The best first; empty where nothing was compared."""

    @property
    def table(self) -> tuple[dict[str, Any], ...]:
        """The readings as `--json` lists them."""
        return tuple(asdict(entry) for entry in self.tried)


def require_choosable(begins: Beginning, layers: str | None, learns: bool) -> None:
    """Raise UsageError where layers are to be chosen and cannot be.

    Args:
        begins: the backbone.
        layers: as asked for.
        learns: whether the network itself is trained.
    """
    if layers == AUTO and (learns or isinstance(begins.source, Random)):
        raise UsageError(
            "Expected --layers auto with a network that is trained already. Received: one that "
            f"learns first. Name one of {', '.join(backbones.LAYERS)}."
        )


def best_reading(
    begins: Beginning,
    images: Sequence[LabelledImage],
    chosen: Chosen,
    runs_on: RunsOn,
    progress: Progress,
) -> Readings:
    """The row of `backbones.LAYERS` with the highest mean class accuracy; of equals the narrowest.

    Args:
        begins: the backbone; how many views it has stays.
        images: to be learned; of more than `MOST_IMAGES` some of each class, by their hashes.
        chosen: solves and asks a head.
        runs_on: where features are computed.
        progress: told the phases of computing features.

    Raises:
        DataError: no image can be held out.
    """
    some, tried = _some(images), []
    for layers in backbones.LAYERS:
        begun = replace(begins, reading=replace(begins.reading, layers=layers))
        tried.append((begun, _tried(begun, some, chosen, runs_on, progress)))
    tried.sort(key=lambda pair: -pair[1].mean_class_accuracy)
    return Readings(tried[0][0], tuple(entry for _, entry in tried))


def _tried(
    begins: Beginning,
    images: Sequence[LabelledImage],
    chosen: Chosen,
    runs_on: RunsOn,
    progress: Progress,
) -> Tried:
    with tempfile.TemporaryDirectory(prefix="tlcli-layers-") as scratch:
        extractor = Extractor.of(begins.stored_in(Path(scratch)), runs_on, None)
        start = time.perf_counter()
        found = extractor.features(images, progress)
        milliseconds = 1e3 * (time.perf_counter() - start)
        computed = len(found.images) - found.from_cache
        choice = chosen(extractor, found.examples)
    if not len(choice.answers.true):
        raise DataError(
            f"Expected at least two images of a class with --layers auto{NOTHING_TO_COMPARE_ON} "
            f"layers on. Name one of {', '.join(backbones.LAYERS)}."
        )
    return Tried(
        begins.reading.layers,
        extractor.stored.width,
        choice.problem.recipe.head,
        *evaluation.accuracies(choice.answers),
        round(milliseconds / computed, 2) if computed else None,
        round(time.perf_counter() - start, 3),
    )


def _some(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """At most `MOST_IMAGES`, the same number of each class, those with the smallest hashes."""
    hashes, labels = [image.sha256 for image in images], [image.label for image in images]
    most = max(MOST_IMAGES // len(set(labels)), _LEAST_EACH)
    return [images[row] for row in some_of_each(hashes, labels, most)]
