"""What an adopted network wants its pixels to look like: said, or tried on labelled images."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import images
from tlcli.config import AdoptConfig
from tlcli.errors import BadImage, DataError, UsageError
from tlcli.images import LabelledImage, Listing, Square
from tlcli.rounds.adoption import Adopted, FromFile
from tlcli.rounds.intake import named

log = logging.getLogger(__name__)

MOST_OF_A_CLASS = 20
MOST_IMAGES = 400

LEAST_SURE = 0.05
"""Largest probability with which chance alone may have been as right."""

SURE = 2.0
"""Standard errors by which the best scaling has to be ahead of the second."""

LEAST_CONFUSED = 5
"""Images of a class from which on it counts that most are called otherwise."""


@dataclass(frozen=True)
class Trial:
    """How right a network is behind a scaling."""

    scaling: str
    accuracy: float
    log_loss: float


def scaled(
    config: AdoptConfig, source: FromFile, names: Sequence[str], listing: Listing | None
) -> tuple[Adopted, dict[str, Any]]:
    """The network behind its scaling, and what was found out on the way.

    Raises:
        UsageError: nothing says which scaling it is.
        DataError: it is right on no more images than chance, whatever the scaling.
    """
    possible = (config.scaling,) if config.scaling is not None else source.scalings
    if listing is None:
        _require_said(config, possible)
        return source.scaled(possible[0]), _facts((), 0)
    sample, pixels = _sample(listing, source.square)
    columns = np.array([names.index(image.label) for image in sample])
    answers = {name: source.answers(name, pixels) for name in possible}
    trials = _trials(answers, columns)
    _require_better_than_chance(config, trials, columns)
    said = [answers[trial.scaling].argmax(axis=1) for trial in trials]
    _warn_of_exchanged(names, said[0], columns)
    if len(trials) > 1:
        _require_lead(config, trials)
        _warn_of_doubt(trials, said[0] == columns, said[1] == columns)
    return source.scaled(trials[0].scaling), _facts(trials, len(columns))


def _facts(trials: Sequence[Trial], images: int) -> dict[str, Any]:
    """What the round reports."""
    return {"scalings": [asdict(trial) for trial in trials], "tried_on": images}


def _require_said(config: AdoptConfig, possible: Sequence[str]) -> None:
    """Refuse to choose between scalings without images."""
    if len(possible) > 1:
        raise UsageError(
            f"Expected --scaling with a model that does not scale pixels itself: one of "
            f"{', '.join(possible)}. Received: {config.model}, whose script did. Look there, "
            "or add --test DATA with labelled images, on which all are tried."
        )


def _sample(listing: Listing, square: Square) -> tuple[list[LabelledImage], NDArray[np.uint8]]:
    """Some images of every class, chosen by their content, with their pixels."""
    most = max(1, min(MOST_OF_A_CLASS, MOST_IMAGES // len(listing.classes)))
    hashes = [image.sha256 for image in listing.images]
    labels = [image.label for image in listing.images]
    chosen = [listing.images[row] for row in images.some_of_each(hashes, labels, most)]
    decoded = list(zip(chosen, images.decode_many(chosen, square), strict=True))
    usable = [(image, found) for image, found in decoded if not isinstance(found, BadImage)]
    if not usable:
        raise DataError(
            f"Expected images that can be read. Received: {chosen[0].path}, and none of the others "
            "can. Look at them with `tlcli data check`."
        )
    return [image for image, _ in usable], np.stack([pixels for _, pixels in usable])


def _trials(answers: Mapping[str, NDArray[np.float64]], columns: NDArray[np.int64]) -> list[Trial]:
    """Every scaling, the best first."""
    trials = [_trial(name, found, columns) for name, found in answers.items()]
    return sorted(trials, key=lambda trial: (-trial.accuracy, trial.log_loss))


def _trial(scaling: str, answers: NDArray[np.float64], columns: NDArray[np.int64]) -> Trial:
    right = answers.argmax(axis=1) == columns
    given = answers[np.arange(len(columns)), columns]
    loss = -np.log(np.maximum(given, np.finfo(np.float64).tiny))
    return Trial(scaling, round(float(right.mean()), 4), round(float(loss.mean()), 4))


def _require_better_than_chance(
    config: AdoptConfig, trials: Sequence[Trial], columns: NDArray[np.int64]
) -> None:
    """Refuse a network that answers as if it did not look."""
    from scipy import stats

    count = len(columns)
    chance = float(np.bincount(columns).max()) / count
    right = round(trials[0].accuracy * count)
    if right == count or stats.binom.sf(right - 1, count, chance) <= LEAST_SURE:
        return
    tried = ", ".join(f"{trial.scaling} {trial.accuracy:.0%}" for trial in trials)
    raise DataError(
        f"Expected a model that is right more often than chance ({chance:.0%}). Received: "
        f"{config.model}, right on {count} images with the scaling {tried}. Check the order of the "
        "names (--classes FILE), the labels of the images, and --scaling."
    )


def _require_lead(config: AdoptConfig, trials: Sequence[Trial]) -> None:
    """Refuse to choose between scalings that are right equally often.

    The loss does not tell: whatever makes answers surer lowers it.
    """
    best = [trial for trial in trials if trial.accuracy == trials[0].accuracy]
    if len(best) > 1:
        raise UsageError(
            "Expected images that tell which scaling it is. Received: "
            f"{' and '.join(trial.scaling for trial in best)}, with which {config.model} is right "
            f"on {best[0].accuracy:.1%} of the images alike. Name it with --scaling, or give more "
            "images."
        )


def _warn_of_doubt(
    trials: Sequence[Trial], best: NDArray[np.bool_], second: NDArray[np.bool_]
) -> None:
    """Say where the images on which two scalings differ do not tell which it is."""
    alone, other = int((best & ~second).sum()), int((second & ~best).sum())
    if alone - other <= SURE * math.sqrt(alone + other):
        log.warning(
            "on these images the scaling %s is hardly better than %s: look into the script of the "
            "model, and name it with --scaling",
            trials[0].scaling,
            trials[1].scaling,
        )


def _warn_of_exchanged(
    names: Sequence[str], said: NDArray[np.int64], columns: NDArray[np.int64]
) -> None:
    """Name classes whose images are mostly called by each other's names."""
    confused = {}
    for column in set(columns.tolist()):
        found = np.bincount(said[columns == column], minlength=len(names))
        most = int(found.argmax())
        if most != column and found.sum() >= LEAST_CONFUSED and 2 * found[most] > found.sum():
            confused[column] = most
    exchanged = [column for column, most in confused.items() if most in confused]
    if exchanged:
        log.warning(
            "most images of %s are given another name of these: check their order in --classes",
            named([names[column] for column in exchanged]),
        )
