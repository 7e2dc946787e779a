"""moments: what DATA adds to a run, as one small file that travels instead of the images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tlcli import memory, moments, runs
from tlcli.config import MemoryOptions, MomentsConfig, Progress, no_progress
from tlcli.errors import DataError, RunError, StorageError, UsageError
from tlcli.images import Listing
from tlcli.memory import Memory
from tlcli.moments import Moments
from tlcli.stages import parents, rounds
from tlcli.stages.parents import Parent
from tlcli.stages.rounds import Clock, Intake


@dataclass(frozen=True)
class CollectedFile:
    """What was written."""

    run: str
    path: str
    shard: str | None
    classes: Mapping[str, int]
    """Images of each class."""
    images: Intake
    backbone_fingerprint: str
    memory_sha256: str
    bytes: int
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The object that `moments --json` prints."""
        return asdict(self)


def collect(config: MomentsConfig, progress: Progress = no_progress) -> CollectedFile:
    """Write the moments of DATA under a run's backbone, with the hashes of its images.

    The run is only read.

    Raises:
        TlcliError: see errors.py; no file is left behind.
    """
    clock = Clock()
    _require_place(config.out)
    parent = Parent.of(runs.open_run(config.run), config.engine)
    listing = _shard(rounds.scan(config.data, progress), config.shard)
    with clock.phase("features"):
        found = parent.lens.features(listing.images, progress)
        skipped = rounds.readable(listing, found, (), config.images.max_bad)
        total = parent.lens.moments(found.examples)
    start = parents.nothing(parent.lens, MemoryOptions("moments"))
    pixels = parents.pixels_of(parent.lens, {}, None)
    content = start.learned(found.examples, total, parent.lens.engine, pixels)
    with clock.phase("save"):
        memory.save_file(content, config.out)
    return CollectedFile(
        str(config.run),
        str(config.out),
        None if config.shard is None else f"{config.shard[0]}/{config.shard[1]}",
        dict(zip(total.classes, map(int, total.counts), strict=True)),
        Intake(len(found.images), found.from_cache, 0, listing.duplicates, skipped),
        parent.lens.stored.fingerprint,
        total.digest,
        config.out.stat().st_size,
        clock.total(),
    )


def _require_place(out: Path) -> None:
    if out.is_dir():
        raise UsageError(f"Expected a file. Received: {out} is a folder. Choose another --out.")
    if not out.parent.is_dir():
        raise StorageError(
            f"Expected a folder for the file. Received: {out.parent} is none. "
            "Make it, or choose another --out."
        )


def _shard(listing: Listing, shard: tuple[int, int] | None) -> Listing:
    """The images whose content hash falls to shard i of n; all shards together are all images."""
    if shard is None:
        return listing
    number, count = shard
    chosen = [image for image in listing.images if int(image.sha256[:16], 16) % count == number - 1]
    kept = {image.label for image in chosen}
    return replace(listing, images=tuple(chosen), named_classes=tuple(sorted(kept)))


@dataclass(frozen=True, eq=False)
class Collected:
    """What files of moments add to a run."""

    moments: Moments
    ledger: Mapping[str, str]
    """Content hash of each image that is new to the run → its class."""
    engines: frozenset[str]
    exact: bool
    already_learned: int


def read(parent: Parent, paths: Sequence[Path]) -> Collected:
    """The files together, without the images that the run has learned before.

    Raises:
        RunError: a file is damaged, or of another backbone.
        DataError: an image is in a file and in the run, and its features are not known.
    """
    nothing = parent.lens.empty_moments()
    result = Collected(nothing, {}, frozenset(), True, 0)
    for path in paths:
        result = _joined(result, _new_part(parent, memory.load_file(path), path), path)
    return result


def _new_part(parent: Parent, content: Memory, path: Path) -> Collected:
    assert content.moments is not None
    _require_same_space(parent, content.moments, path)
    learned = parent.memory.ledger
    again = {key: name for key, name in content.ledger.items() if key in learned}
    new = {key: name for key, name in content.ledger.items() if key not in learned}
    part, exact = content.moments, content.exact
    if again:
        _require_same_labels(again, learned, path)
        part = (
            moments.subtract(part, _moments_of(parent, content, again, path))
            if new
            else (parent.lens.empty_moments())
        )
    return Collected(part, new, content.engines, exact, len(again))


def _moments_of(parent: Parent, content: Memory, again: Mapping[str, str], path: Path) -> Moments:
    """The moments of images of a file that the run has learned, to be taken away from it."""
    recalled = parents.recall(parent, (), True, no_progress, again)
    recalled = parents.with_same_bits(parent, recalled)
    if recalled.missing or not content.engines <= parent.memory.engines:
        raise DataError(
            f"Expected images that the run has not learned. Received: {len(again)} of "
            f"{len(content.ledger)} images in {path} were learned before, and their features are "
            "not known here. Write the file again without them, or give the images as DATA."
        )
    return parent.lens.moments(recalled.examples)


def _require_same_space(parent: Parent, given: Moments, path: Path) -> None:
    try:
        moments.require_same_space(parent.lens.empty_moments(), given)
    except RunError as error:
        raise RunError(f"{path}: {error}") from error


def _require_same_labels(again: Mapping[str, str], learned: Mapping[str, str], path: Path) -> None:
    for key, name in again.items():
        if learned[key] != name:
            raise DataError(
                f"Expected one class for each image. Received: an image of {name!r} in {path} was "
                f"learned as {learned[key]!r} (content hash {key[:12]}…). Correct one of them."
            )


def _joined(a: Collected, b: Collected, path: Path) -> Collected:
    if twice := len(a.ledger.keys() & b.ledger.keys()):
        raise DataError(
            f"Expected files without common images. Received: {twice} images of {path} are in "
            "another file too. Give each image once; --shard i/N cuts DATA without overlap."
        )
    return Collected(
        moments.add(a.moments, b.moments),
        {**a.ledger, **b.ledger},
        a.engines | b.engines,
        a.exact and b.exact,
        a.already_learned + b.already_learned,
    )
