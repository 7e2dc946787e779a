"""cache: what is kept there, and its deletion."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlcli import cache, features, strict
from tlcli.cache import Entry

log = logging.getLogger(__name__)

_MOST_BYTES = 2**20
"""Of the description of a space."""

SECONDS_A_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class SpaceUse:
    """The feature vectors of one backbone, size and arithmetic; None where it is not known."""

    backbone: str | None
    image_size: int | None
    arithmetic: str | None
    images: int | None
    bytes: int
    last_used: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class BackboneUse:
    """A backbone that is ready to be used."""

    name: str | None
    bytes: int
    last_used: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class CacheUse:
    """What the cache holds."""

    folder: str
    limit: int
    features: tuple[SpaceUse, ...]
    backbones: tuple[BackboneUse, ...]
    hash_index_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The object that `cache stats --json` prints."""
        parts = [part.bytes for part in self.features] + [part.bytes for part in self.backbones]
        return asdict(self) | {"bytes": sum(parts) + self.hash_index_bytes}


@dataclass(frozen=True)
class Cleared:
    """What was deleted, and how many entries could not be."""

    folder: str
    freed_bytes: int
    segments: int
    backbones: int
    left: int

    def to_json(self) -> dict[str, Any]:
        """The object that `cache clear --json` prints."""
        return asdict(self)


def stats() -> CacheUse:
    """Measure the cache; no segment is read.

    Raises:
        UsageError: the cache's limit is not a size.
    """
    uses = [
        _space_use(space, found) for space in cache.spaces() if (found := cache.segments(space))
    ]
    return CacheUse(
        str(cache.folder()),
        cache.limit(),
        tuple(uses),
        tuple(_backbone_use(entry) for entry in cache.backbones()),
        sum(entry.bytes for entry in cache.hash_index()),
    )


def _space_use(space: Path, segments: Sequence[Entry]) -> SpaceUse:
    facts = _described(space / features.DESCRIPTION)
    width = facts.get("width")
    images = None
    if isinstance(width, int) and width > 0:
        images = sum(features.images_in(entry.bytes, width) for entry in segments)
    return SpaceUse(
        facts.get("backbone"),
        facts.get("image_size"),
        facts.get("arithmetic"),
        images,
        sum(entry.bytes for entry in segments),
        _last_used(segments),
    )


def _backbone_use(entry: Entry) -> BackboneUse:
    name = _described(entry.path / "backbone.json").get("name")
    return BackboneUse(name, entry.bytes, _last_used([entry]))


def _described(path: Path) -> dict[str, Any]:
    """The simple values of a JSON object; none where it cannot be read."""
    try:
        content = strict.json_of(strict.content_of(path, _MOST_BYTES))
    except (OSError, ValueError):
        return {}
    facts = content.items() if isinstance(content, dict) else ()
    return {name: value for name, value in facts if isinstance(value, str | int)}


def _last_used(entries: Sequence[Entry]) -> str:
    latest = max(entry.last_used for entry in entries)
    return datetime.fromtimestamp(latest, UTC).isoformat(timespec="seconds")


def _small() -> list[Entry]:
    """What is forgotten without a word: it takes no time to have it again."""
    return [*cache.hash_index(), *cache.kinds()]


def clear(older_than: float = 0.0) -> Cleared:
    """Delete what was not used for longer than `older_than` days, and nothing foreign."""
    segments = [entry for space in cache.spaces() for entry in cache.segments(space)]
    backbones = cache.backbones()
    newest = time.time() - older_than * SECONDS_A_DAY if older_than else math.inf
    found = (*segments, *backbones, *_small(), *cache.unfinished())
    unused = [entry for entry in found if entry.last_used <= newest]
    removed = {entry for entry in unused if _removed(entry)}
    cache.remove_empty_folders()
    return Cleared(
        str(cache.folder()),
        sum(entry.bytes for entry in removed),
        len(removed.intersection(segments)),
        len(removed.intersection(backbones)),
        len(unused) - len(removed),
    )


def _removed(entry: Entry) -> bool:
    """Whether an entry could be deleted; a warning where not."""
    removed = cache.remove(entry)
    if not removed:
        log.warning("%s cannot be deleted", entry.path)
    return removed
