"""Images → feature vectors, each image through the backbone once, ever.

Vectors are cached under the hash of the image's bytes, in a folder for each backbone, engine and
decoder. The cache consists of immutable, checksummed HDF5 segments and is disposable: damage is
noticed and the vectors are computed again, and results never depend on it.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from tlcli import cache, files, images
from tlcli.config import Progress
from tlcli.engines import BATCH, Engine
from tlcli.errors import BadImage, StorageError
from tlcli.images import LabelledImage, Skipped

log = logging.getLogger(__name__)

SEGMENT_IMAGES = 2048
"""New vectors are saved at least this often, so that a kill costs little."""

DECODER = f"1 pillow {PIL.__version__}"
"""What turns a file into pixels, as part of the cache key."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Features:
    """The feature vectors of the images that could be read."""

    images: tuple[LabelledImage, ...]
    vectors: Float32
    """(n, D)"""
    skipped: tuple[Skipped, ...]
    from_cache: int

    @property
    def labels(self) -> tuple[str, ...]:
        """The class name of each image."""
        return tuple(image.label for image in self.images)

    @property
    def hashes(self) -> tuple[str, ...]:
        """The content hash of each image."""
        return tuple(image.sha256 for image in self.images)

    def where(self, mask: NDArray[np.bool_]) -> "Features":
        """The features of the images for which `mask` (n,) is true."""
        chosen = tuple(image for image, keep in zip(self.images, mask, strict=True) if keep)
        return Features(chosen, self.vectors[mask], (), 0)


@dataclass(frozen=True)
class Space:
    """What decides the bits of a feature vector, besides the image."""

    fingerprint: str
    image_size: int
    width: int
    engine: str = "keras"

    @property
    def cache_key(self) -> str:
        """Name of the cache folder of this space."""
        facts = (self.fingerprint, str(self.image_size), self.engine, DECODER)
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def extract(
    wanted: Sequence[LabelledImage],
    space: Space,
    open_engine: Callable[[], Engine],
    progress: Progress,
) -> Features:
    """The feature vectors of images; only those that no earlier command has seen are computed.

    Args:
        wanted: images with distinct content hashes.
        space: the backbone's side of the cache key.
        open_engine: called only when an image is not in the cache.
        progress: told the phase "features".
    """
    kept = Cache(cache.folder() / "features" / space.cache_key, space.width)
    known = kept.load({image.sha256 for image in wanted})
    missing = [image for image in wanted if image.sha256 not in known]
    skipped: list[Skipped] = []
    if missing:
        computed = _compute(missing, space, open_engine(), skipped)
        known |= kept.store(_counted(computed, progress, len(missing)))
    found = [image for image in wanted if image.sha256 in known]
    vectors = np.array([known[image.sha256] for image in found], np.float32)
    return Features(
        tuple(found),
        vectors.reshape(len(found), space.width),
        tuple(skipped),
        len(wanted) - len(missing),
    )


def _counted(
    computed: Iterator[tuple[str, Float32]], progress: Progress, total: int
) -> Iterator[tuple[str, Float32]]:
    progress("features", 0, total)
    for done, pair in enumerate(computed, 1):
        yield pair
        progress("features", done, total)
    progress("features", total, total)


def _compute(
    missing: Sequence[LabelledImage], space: Space, engine: Engine, skipped: list[Skipped]
) -> Iterator[tuple[str, Float32]]:
    """Yield (content hash, vector) in input order; files that do not decode go to `skipped`."""
    waiting: list[str] = []
    batches = _batches(missing, space.image_size, waiting, skipped)
    for vectors in engine.features(batches):
        count = min(len(waiting), len(vectors))
        yield from zip(waiting[:count], vectors, strict=False)
        del waiting[:count]


def _batches(
    wanted: Sequence[LabelledImage], size: int, accepted: list[str], skipped: list[Skipped]
) -> Iterator[NDArray[np.uint8]]:
    """Full batches (BATCH, size, size, 3); the last is padded with black images."""
    batch = np.zeros((BATCH, size, size, 3), np.uint8)
    filled = 0
    decoded = images.decode_many(wanted, size)
    for image, pixels in zip(wanted, decoded, strict=True):
        if isinstance(pixels, BadImage):
            skipped.append(Skipped(str(image.path), str(pixels)))
            continue
        batch[filled] = pixels
        accepted.append(image.sha256)
        filled += 1
        if filled == BATCH:
            yield batch
            batch, filled = np.zeros_like(batch), 0
    if filled:
        yield batch


@dataclass(frozen=True)
class Cache:
    """The feature vectors of one space, in immutable segments."""

    folder: Path
    width: int
    warned: list[str] = field(default_factory=list)

    def load(self, wanted: set[str]) -> dict[str, Float32]:
        """Content hash → vector (D,) for those of `wanted` that are kept."""
        found: dict[str, Float32] = {}
        for path in self._segments():
            keys, vectors = self._read(path)
            for key, vector in zip(keys, vectors, strict=True):
                if key in wanted:
                    found[key] = vector
        return found

    def store(self, computed: Iterator[tuple[str, Float32]]) -> dict[str, Float32]:
        """Take in newly computed vectors, a segment at a time, and return them all.

        What was computed before an interruption is saved.
        """
        taken: dict[str, Float32] = {}
        fresh: dict[str, Float32] = {}
        try:
            for key, vector in computed:
                fresh[key] = vector
                if len(fresh) == SEGMENT_IMAGES:
                    self._write(fresh)
                    taken |= fresh
                    fresh = {}
        finally:
            if fresh:
                self._write(fresh)
        return taken | fresh

    def _segments(self) -> list[Path]:
        try:
            return sorted(self.folder.glob("[!.]*.h5"))
        except OSError as error:
            self._warn(f"{self.folder} cannot be read ({error.strerror})")
            return []

    def _read(self, path: Path) -> tuple[list[str], Float32]:
        """A segment's keys and vectors; nothing, with a warning, where it is damaged."""
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != path.stem:
                raise ValueError("its checksum does not match")
            arrays, _ = files.unpack_arrays(content)
            keys, vectors = arrays["keys"], arrays["vectors"]
            if vectors.shape != (len(keys), self.width):
                raise ValueError(f"it has vectors of shape {vectors.shape}")
            return [key.tobytes().hex() for key in keys], vectors
        except (OSError, KeyError, ValueError) as error:
            self._warn(f"{path} is damaged ({error}); its features are computed again")
            with contextlib.suppress(OSError):
                path.unlink()
            return [], np.zeros((0, self.width), np.float32)

    def _write(self, fresh: dict[str, Float32]) -> None:
        """Save a segment under the hash of its bytes; without one, with a warning, on failure."""
        keys = np.frombuffer(bytes.fromhex("".join(fresh)), np.uint8).reshape(-1, 32)
        vectors = np.array(list(fresh.values()), np.float32)
        content = files.pack_arrays({"keys": keys, "vectors": vectors}, {})
        path = self.folder / f"{hashlib.sha256(content).hexdigest()}.h5"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with files.written(path) as stream:
                stream.write(content)
        except (OSError, StorageError) as error:
            self._warn(f"{self.folder} cannot be written ({error.__cause__ or error})")

    def _warn(self, problem: str) -> None:
        if problem not in self.warned:
            self.warned.append(problem)
            log.warning("feature cache: %s", problem)
