"""triage: images that fit no known class, grouped into candidates for new ones."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import clustering, images, retrieval, runs
from tlcli.config import Progress, TriageConfig, no_progress
from tlcli.errors import BadImage, DataError, NoImage
from tlcli.features import Features, Matrix, among
from tlcli.images import ImageFile, Skipped
from tlcli.images.class_folders import copy_into, require_outside
from tlcli.retrieval import Descriptor, Ground
from tlcli.rounds.intake import require_classes, warn_of_tones
from tlcli.rounds.novelty import Judge, judge, require_rate
from tlcli.rounds.parent import Parent
from tlcli.rounds.result import Phases
from tlcli.urls import place


@dataclass(frozen=True)
class Novel:
    """An image that fits no known class."""

    path: str
    score: float
    nearest: str
    """The known class that it is least unlike."""
    sha256: str


@dataclass(frozen=True)
class Candidate:
    """Images that may be of one new class."""

    name: str
    images: tuple[Novel, ...]
    """The most typical first."""


@dataclass(frozen=True)
class Triaged:
    """What became of the images that were looked at."""

    run: str
    round: int
    images: int
    """Distinct ones that could be read."""
    known: int
    """Those that are like a known class."""
    learned: int
    """Those among them that the run has learned."""
    candidates: tuple[Candidate, ...]
    """The largest first."""
    singles: tuple[Novel, ...]
    """Novel images in groups that are too small, the most novel first."""
    limit: float
    """The score above which an image is novel."""
    false_alarms: float
    calibrated_on: str
    calibration_images: int
    skipped: tuple[Skipped, ...]
    copied_to: str | None
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The object that `triage --json` prints."""
        return asdict(self)


def triage(config: TriageConfig, progress: Progress = no_progress) -> Triaged:
    """Score the images of files, folders and patterns, and group those that are novel.

    Nothing is learned.

    Raises:
        TlcliError: see errors.py.
    """
    _require(config)
    phases = Phases(progress)
    run = runs.open_run(config.run)
    require_classes(run.round())
    parent = Parent.of(run, config.runs_on)
    judged = _judged(config, parent, phases)
    with phases.phase("groups"):
        candidates, singles = _grouped(config, judged)
    if config.copy_into is not None:
        _copy(config.copy_into, candidates)
    return _triaged(config, judged, candidates, singles, phases)


@dataclass(frozen=True, eq=False)
class _Judged:
    """The images that were looked at, and how novel they are."""

    parent: Parent
    rule: Judge
    found: Features[ImageFile]
    skipped: tuple[Skipped, ...]
    scores: NDArray[np.float64]
    """(n,) of the images that were found."""
    learned: NDArray[np.bool_]
    """(n,) whether the run has learned them."""

    @property
    def novel(self) -> NDArray[np.bool_]:
        """(n,) whether they are of no known class, and were never learned."""
        return (self.scores > self.rule.limit) & ~self.learned


def _judged(config: TriageConfig, parent: Parent, phases: Phases) -> _Judged:
    """The scores of the images, beside the limit that images of known classes set."""
    with phases.phase("limit"):
        rule = judge(parent, config.false_alarms, config.known, config.columns, phases.progress)
    with phases.phase("features"):
        found, skipped = _looked_at(config, parent, phases.progress)
    learned = among(found.hashes, parent.memory.ledger)
    return _Judged(parent, rule, found, skipped, rule.scores(found.vectors), learned)


def _triaged(
    config: TriageConfig,
    judged: _Judged,
    candidates: tuple[Candidate, ...],
    singles: tuple[Novel, ...],
    phases: Phases,
) -> Triaged:
    return Triaged(
        run=str(config.run),
        round=judged.parent.round.number,
        images=len(judged.found.images),
        known=int((~judged.novel).sum()),
        learned=int(judged.learned.sum()),
        candidates=candidates,
        singles=singles,
        limit=judged.rule.limit,
        false_alarms=config.false_alarms,
        calibrated_on=judged.rule.source,
        calibration_images=len(judged.rule.known),
        skipped=judged.skipped,
        copied_to=None if config.copy_into is None else str(config.copy_into),
        seconds=phases.total(),
    )


def _require(config: TriageConfig) -> None:
    require_rate(config.false_alarms)
    images.require_paths(config.paths)
    if config.copy_into is not None:
        require_outside(config.copy_into, (*config.paths, str(config.run)))


def _looked_at(
    config: TriageConfig, parent: Parent, progress: Progress
) -> tuple[Features[ImageFile], tuple[Skipped, ...]]:
    """The features of the images, each content once, and what cannot be read."""
    batches = images.image_batches(config.paths, images.growing())
    paths = [path for batch in batches for path in batch]
    hashes = list(images.content_hashes(paths))
    files: dict[str, ImageFile] = {}
    skipped = []
    for path, key in zip(paths, hashes, strict=True):
        if isinstance(key, BadImage):
            skipped.append(Skipped(str(path), str(key)))
        else:
            files.setdefault(key, ImageFile(path, key))
    found = parent.extractor.features(list(files.values()), progress)
    warn_of_tones(found.tones)
    if not found.images:
        raise NoImage(config.paths)
    return found, (*skipped, *found.skipped)


def _grouped(
    config: TriageConfig, judged: _Judged
) -> tuple[tuple[Candidate, ...], tuple[Novel, ...]]:
    """Candidates, and novel images that are alone."""
    places = np.flatnonzero(judged.novel)
    if len(places) == 0:
        return (), ()
    _require_few(len(places))
    rule, vectors = judged.rule, judged.found.vectors.take(places)
    entries = list(_novel(judged, places, vectors))
    members = _groups(rule, vectors)
    large = [rows for rows in members if len(rows) >= config.min_images]
    rest = [entries[row] for rows in members if len(rows) < config.min_images for row in rows]
    candidates = tuple(
        Candidate(f"candidate-{number:02d}", tuple(entries[row] for row in rows))
        for number, rows in enumerate(large, 1)
    )
    return candidates, tuple(sorted(rest, key=lambda entry: -entry.score))


def _require_few(novel: int) -> None:
    if novel > clustering.MOST:
        raise DataError(
            f"Expected at most {clustering.MOST} novel images to group. Received: {novel}. "
            "Look at fewer at a time, or lower --false-alarms."
        )


def _descriptor(rule: Judge) -> Descriptor:
    """Whitened by the moments of the run, where they are of plain features."""
    total = None if rule.extractor.projection else rule.moments
    ground = Ground(rule.extractor.stored.width, total, None)
    return retrieval.DESCRIPTORS[ground.usual].make(ground)


def _groups(rule: Judge, vectors: Matrix) -> list[list[int]]:
    """The rows of each group; how alike its images are is learned from known classes."""
    kind = _descriptor(rule)
    described = kind.of(vectors[:])
    least = clustering.separating_similarity(kind.of(rule.known.vectors[:]), rule.known.labels)
    return list(_members(clustering.clusters(described, least), described))


def _members(groups: NDArray[np.intp], described: NDArray[np.float32]) -> Iterator[list[int]]:
    """Yield the rows of each group, the largest group first, the most typical row first."""
    for number in range(groups.max() + 1):
        rows = np.flatnonzero(groups == number)
        typical = described[rows] @ described[rows].mean(axis=0)
        yield rows[np.argsort(-typical, kind="stable")].tolist()


def _novel(judged: _Judged, places: NDArray[np.intp], vectors: Matrix) -> Iterator[Novel]:
    """Yield the images at some places, of which the vectors are."""
    rule = judged.rule
    nearest = rule.novelty.nearest(rule.extractor.seen(vectors)[:])
    for row, name in zip(places, nearest, strict=True):
        image = judged.found.images[row]
        yield Novel(str(image.path), float(judged.scores[row]), name, image.sha256)


def _copy(folder: Path, candidates: tuple[Candidate, ...]) -> None:
    """A folder of copies for each candidate, to be renamed and learned."""
    for candidate in candidates:
        for entry in candidate.images:
            copy_into(folder, candidate.name, place(entry.path), entry.sha256)
