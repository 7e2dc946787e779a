"""evaluate --retrieval: how well images find those of their class, on classes not learned."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tlcli import images, memory, retrieval, runs
from tlcli.config import EvaluateConfig, Progress, no_progress
from tlcli.errors import DataError, UsageError
from tlcli.evaluation.intervals import LEVEL
from tlcli.evaluation.retrieval import DRAWS, Gain, Measured, Ranking
from tlcli.extractor import Extractor
from tlcli.images import LabelledImage, Listing, Skipped
from tlcli.retrieval import Ground
from tlcli.rounds.descriptors import ground_of
from tlcli.rounds.intake import listed, warn_of_tones
from tlcli.runs import Round, Run

_OF_HEADS = (
    *("by", "against", "all_rounds", "ignore_unknown"),
    *("fail_under", "max_regression", "min_class_accuracy"),
)
"""Options that are about the answers of a head."""


@dataclass(frozen=True)
class Retrieval:
    """How well each kind of descriptor finds images of a class."""

    run: str
    round: int
    images: int
    questions: int
    """Images whose class has another one."""
    classes: tuple[str, ...]
    known_classes: tuple[str, ...]
    """Of DATA, which the run or its projection has learned; left out, or measured where asked."""
    known_images: int
    """Of those classes, and those that the run has learned under another name."""
    included: bool
    """Whether they were measured, so that the figures look better than they are."""
    skipped: tuple[Skipped, ...]
    rankings: tuple[Ranking, ...]
    gains: tuple[Gain, ...]
    """Of each kind over those before it."""

    def to_json(self) -> dict[str, Any]:
        """The object that `evaluate --retrieval --json` prints."""
        return {
            "run": self.run,
            "round": self.round,
            "images": self.images,
            "questions": self.questions,
            "classes": list(self.classes),
            "known_classes": list(self.known_classes),
            "known_images": self.known_images,
            "known_included": self.included,
            "skipped": [entry.to_json() for entry in self.skipped],
            "level": LEVEL,
            "draws": DRAWS,
            "descriptors": [entry.to_json() for entry in self.rankings],
            "differences": [asdict(entry) for entry in self.gains],
        }


def evaluate_retrieval(config: EvaluateConfig, progress: Progress = no_progress) -> Retrieval:
    """Measure every kind of descriptor that a run can make, on classes that it does not know.

    Raises:
        TlcliError: see errors.py.
    """
    _require_alone(config)
    run = runs.open_run(config.run)
    if config.data == "-":  # it cannot be read twice
        return _measured(run, config, progress)
    return run.steadily(lambda: _measured(run, config, progress))


def _measured(run: Run, config: EvaluateConfig, progress: Progress) -> Retrieval:
    entry, extractor, ground = run.steadily(lambda: _opened(run, config))
    listing = listed(config.data, config.images.columns, progress)
    given = _Given.of(config, listing, run, entry, ground)
    found = extractor.features(given.wanted, progress)
    warn_of_tones(found.tones)
    skipped = (*listing.skipped, *found.skipped)
    images.reject_bad(listing.total, skipped, config.images.max_bad, listing.lost)
    _require_questions(config, found.labels, given)
    measured = [
        Measured.of(name, kind.of(found.vectors[:]), found.labels)
        for name, kind in retrieval.possible(ground).items()
    ]
    return _retrieval(config, entry, given, skipped, found.labels, measured)


def _opened(run: Run, config: EvaluateConfig) -> tuple[Round, Extractor, Ground]:
    entry = run.round(config.round)
    extractor = Extractor.of_round(run, entry, config.runs_on)
    return entry, extractor, ground_of(run, entry, extractor)


def _retrieval(
    config: EvaluateConfig,
    entry: Round,
    given: "_Given",
    skipped: tuple[Skipped, ...],
    labels: Sequence[str],
    measured: Sequence[Measured],
) -> Retrieval:
    counts = Counter(labels)
    return Retrieval(
        run=str(config.run),
        round=entry.number,
        images=len(labels),
        questions=sum(count for count in counts.values() if count > 1),
        classes=tuple(sorted(counts)),
        known_classes=tuple(sorted(given.known_classes)),
        known_images=given.known_images,
        included=config.include_learned,
        skipped=skipped,
        rankings=tuple(kind.ranking for kind in measured),
        gains=_gains(measured),
    )


def _gains(measured: Sequence[Measured]) -> tuple[Gain, ...]:
    """Of each kind over those before it."""
    return tuple(
        kind.over(other) for place, kind in enumerate(measured) for other in measured[:place]
    )


def _require_alone(config: EvaluateConfig) -> None:
    usual = EvaluateConfig(config.run, config.data)
    for name in _OF_HEADS:
        if getattr(config, name) != getattr(usual, name):
            flag = name.replace("_", "-")
            raise UsageError(
                f"Expected --{flag} without --retrieval, which asks no head. Received: both. "
                "Leave one of them out."
            )


@dataclass(frozen=True)
class _Given:
    """The images of DATA, and which of them are measured."""

    wanted: tuple[LabelledImage, ...]
    known_classes: Collection[str]
    known_images: int

    @staticmethod
    def of(
        config: EvaluateConfig, listing: Listing, run: Run, entry: Round, ground: Ground
    ) -> "_Given":
        """Without what the run has learned by this round or by now, unless it is wanted too."""
        learned = memory.ledger_of(entry).keys() | memory.ledger_of(run.round()).keys()
        known = {*entry.classes, *run.round().classes}
        known |= set(ground.learned.classes if ground.learned else ())
        fresh = tuple(
            image
            for image in listing.images
            if image.label not in known and image.sha256 not in learned
        )
        classes = known & {image.label for image in listing.images}
        wanted = listing.images if config.include_learned else fresh
        return _Given(tuple(wanted), classes, len(listing.images) - len(fresh))


def _require_questions(config: EvaluateConfig, labels: tuple[str, ...], given: _Given) -> None:
    """Refuse images among which nothing can be looked for."""
    counts = Counter(labels)
    if len(counts) < 2 or max(counts.values()) < 2:
        two = sum(count > 1 for count in counts.values())
        left_out = f", without {given.known_images} of classes that it knows (--include-learned)"
        raise DataError(
            f"Expected images of two classes, and two of one of them, that {config.run} does not "
            f"know. Received: {len(counts)} classes in {config.data}, {two} of them with two "
            f"images{'' if config.include_learned else left_out}. Give images of other classes."
        )
