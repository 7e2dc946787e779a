"""moments: what DATA adds to a run, as one small file that travels instead of the images."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tlcli import images, memory, runs
from tlcli.config import MemoryOptions, MomentsConfig, Progress, no_progress
from tlcli.errors import StorageError, UsageError
from tlcli.extractor import Extractor
from tlcli.features import Examples
from tlcli.images import Listing
from tlcli.memory import Memory, Shard
from tlcli.memory.pixels import pixels_of
from tlcli.moments import Moments
from tlcli.rounds.intake import Intake, readable, scan
from tlcli.rounds.parent import Parent, empty_memory
from tlcli.rounds.result import Phases


@dataclass(frozen=True)
class CollectedFile:
    """What was written."""

    run: str
    path: str
    shard: str | None
    data_sha256: str | None
    """Of all that DATA holds, where it is a shard of it."""
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
    phases = Phases(progress)
    _require_place(config.out)
    parent = Parent.of(runs.open_run(config.run), config.runs_on)
    everything = scan(config.data, config.images.columns, progress)
    listing = _part_of(everything, config.shard)
    data = images.digest_of(everything.sha256s, everything.labels)
    shard = Shard(*config.shard, data) if config.shard else None
    with phases.phase("features"):
        found = parent.extractor.features(listing.images, progress)
        skipped = readable(listing, found, (), config.images.max_bad)
        total = parent.extractor.moments(found.examples)
    content = _content(parent.extractor, found.examples, total)
    with phases.phase("save"):
        memory.save_file(content, config.out, shard)
    return CollectedFile(
        str(config.run),
        str(config.out),
        f"{shard.number}/{shard.count}" if shard else None,
        shard.data if shard else None,
        dict(zip(total.classes, map(int, total.counts), strict=True)),
        Intake.of(listing, found, skipped),
        parent.extractor.stored.fingerprint,
        total.digest,
        config.out.stat().st_size,
        phases.total(),
    )


def _content(extractor: Extractor, found: Examples, total: Moments) -> Memory:
    """What a run would remember that has learned these images alone."""
    start = empty_memory(extractor, MemoryOptions("moments"))
    pixels = pixels_of({}, extractor.square, None)
    return start.learned(found, total, extractor.kind, pixels)


def _require_place(out: Path) -> None:
    if out.is_dir():
        raise UsageError(f"Expected a file. Received: {out} is a folder. Choose another --out.")
    if not out.parent.is_dir():
        raise StorageError(
            f"Expected a folder for the file. Received: {out.parent} is none. "
            "Make it, or choose another --out."
        )


def _part_of(listing: Listing, shard: tuple[int, int] | None) -> Listing:
    """The images whose content hash falls to shard i of n; all shards together are all images."""
    if shard is None:
        return listing
    number, count = shard
    chosen = [image for image in listing.images if int(image.sha256[:16], 16) % count == number - 1]
    kept = {image.label for image in chosen}
    return replace(listing, images=tuple(chosen), named_classes=tuple(sorted(kept)))
