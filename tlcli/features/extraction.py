"""Images → feature vectors, each image through the backbone once, ever."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import compress
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tlcli import cache, images
from tlcli.config import Progress
from tlcli.engines import Computed, Engine, Files
from tlcli.errors import BadImage
from tlcli.features.examples import Examples, Matrix
from tlcli.features.feature_cache import Index, Miscounted, Store
from tlcli.features.vectors import Float32
from tlcli.images import ImageFile, LabelledImage, Skipped, Square, Tones

Image = TypeVar("Image", bound=ImageFile)

_CHUNK = 128
"""Images that are loaded at once."""


@dataclass(frozen=True, eq=False)
class Features(Generic[Image]):
    """The feature vectors of the images that could be read."""

    images: tuple[Image, ...]
    vectors: Matrix
    """(n, D)"""
    refused: tuple[tuple[Image, str], ...]
    """The others, each with the reason."""
    from_cache: int
    tones: Tones = field(default_factory=Tones)
    """Of the images that were decoded; those from the cache are not looked at again."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The files that could not be read."""
        return tuple(Skipped(str(image.path), reason) for image, reason in self.refused)

    @property
    def labels(self: "Features[LabelledImage]") -> tuple[str, ...]:
        """The class name of each image."""
        return tuple(image.label for image in self.images)

    @property
    def hashes(self) -> tuple[str, ...]:
        """The content hash of each image."""
        return tuple(image.sha256 for image in self.images)

    @property
    def examples(self: "Features[LabelledImage]") -> Examples:
        """The same without the files that they came from."""
        groups = tuple(image.group_key for image in self.images)
        return Examples(self.hashes, self.labels, self.vectors, groups if any(groups) else ())


def extract(
    wanted: Sequence[Image],
    store: Store,
    open_engine: Callable[[], Engine],
    progress: Progress,
    elsewhere: Files | None = None,
) -> Features[Image]:
    """The feature vectors of images; only those that no earlier command has seen are computed.

    Args:
        wanted: images with distinct content hashes.
        store: the cache of the backbone's space.
        open_engine: called only when an image is not in the cache.
        progress: told the phase "features".
        elsewhere: computes them instead of the engine.

    Raises:
        UsageError: the cache's limit is not a size.
    """
    cache.limit()
    index = Index([image.sha256 for image in wanted], store.space.width)
    store.load(index)
    missing = list(compress(wanted, ~index.known))
    refused: list[tuple[Image, str]] = []
    tones = Tones()
    if missing:
        computing = (
            _collect(missing, elsewhere(missing), refused, tones)
            if elsewhere
            else _compute(missing, store.space.square, open_engine(), refused, tones)
        )
        with closing(computing) as computed:
            store.store(index, _counted(computed, progress, len(missing)))
        cache.evict()
    found = tuple(compress(wanted, index.known))
    return Features(found, index.vectors(), tuple(refused), len(wanted) - len(missing), tones)


def compute(
    wanted: Sequence[ImageFile], square: Square, engine: Engine, threads: int = images.PROCESSORS
) -> Computed:
    """What comes of some files here and now; nothing is cached.

    Args:
        wanted: images with distinct content hashes, few enough for their features to be held.
        square: what they are drawn to.
        engine: of the backbone.
        threads: that decode.
    """
    refused: list[tuple[ImageFile, str]] = []
    tones = Tones()
    pairs = list(_compute(wanted, square, engine, refused, tones, threads))
    return Computed(
        tuple(key for key, _ in pairs),
        np.array([vector for _, vector in pairs], np.float32),
        tuple((image.sha256, reason) for image, reason in refused),
        tones,
    )


def extract_pixels(
    hashes: Sequence[str],
    load: Callable[[Sequence[str]], NDArray[np.uint8]],
    store: Store,
    open_engine: Callable[[], Engine],
    progress: Progress,
) -> Matrix:
    """The feature vectors (n, D) of images that are named by their content hashes.

    Args:
        hashes: distinct.
        load: gives the pixels (k, S, S, 3) of some of them, as they are decoded.
        store: the cache of the backbone's space.
        open_engine: called only when an image is not in the cache.
        progress: told the phase "features".
    """
    index = Index(list(hashes), store.space.width)
    store.load(index)
    missing = list(compress(hashes, ~index.known))
    if missing:
        chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]
        with (
            closing(images.map_ahead(load, chunks, workers=1, ahead=2)) as loaded,
            closing(open_engine().features(row for rows in loaded for row in rows)) as vectors,
        ):
            pairs = _paired(missing, vectors)
            store.store(index, _counted(pairs, progress, len(missing)))
        cache.evict()
    return index.vectors()


def recall(labels: Mapping[str, str], store: Store) -> Examples:
    """The features that the cache has of images of which only the hash is known.

    Args:
        labels: content hash → class.
        store: the cache of the backbone's space.
    """
    index = Index(list(labels), store.space.width)
    store.load(index)
    hashes = tuple(compress(labels, index.known))
    return Examples(hashes, tuple(labels[key] for key in hashes), index.vectors())


def _paired(
    hashes: Sequence[str], vectors: Iterator[Float32]
) -> Generator[tuple[str, Float32], None, None]:
    try:
        yield from zip(hashes, vectors, strict=True)
    except ValueError as error:
        raise Miscounted(f"the engine gave another number of vectors ({error})") from error


def _counted(
    computed: Iterator[tuple[str, Float32]], progress: Progress, total: int
) -> Iterator[tuple[str, Float32]]:
    progress("features", 0, total)
    for done, pair in enumerate(computed, 1):
        yield pair
        progress("features", done, total)
    progress("features", total, total)


def _collect(
    missing: Sequence[Image],
    shards: Generator[Computed, None, None],
    refused: list[tuple[Image, str]],
    tones: Tones,
) -> Generator[tuple[str, Float32], None, None]:
    """Yield (content hash, vector) as shards come; other files go to `refused` in input order."""
    places = {image.sha256: place for place, image in enumerate(missing)}
    unread: list[tuple[int, str]] = []
    with closing(shards):
        for shard in shards:
            unread += [(places.pop(key), reason) for key, reason in shard.unread]
            tones.join(shard.tones)
            for key, vector in zip(shard.hashes, shard.vectors, strict=True):
                del places[key]
                yield key, vector
    if places:
        raise Miscounted(f"{len(places)} images were left unanswered")
    refused += [(missing[place], reason) for place, reason in sorted(unread)]


def _compute(
    missing: Sequence[Image],
    square: Square,
    engine: Engine,
    refused: list[tuple[Image, str]],
    tones: Tones,
    threads: int = images.PROCESSORS,
) -> Generator[tuple[str, Float32], None, None]:
    """Yield (content hash, vector) in input order; files that do not decode go to `refused`.

    Closing it waits for what is being decoded or computed, and begins nothing more.
    """
    waiting: deque[str] = deque()
    with (
        closing(_pixels(missing, square, waiting, refused, tones, threads)) as pixels,
        closing(engine.features(pixels)) as vectors,
    ):
        for vector in vectors:
            if not waiting:
                raise Miscounted("the engine gave a vector without an image")
            yield waiting.popleft(), vector
    if waiting:
        raise Miscounted(f"the engine left {len(waiting)} images unanswered")


def _pixels(
    wanted: Sequence[Image],
    square: Square,
    accepted: deque[str],
    refused: list[tuple[Image, str]],
    tones: Tones,
    threads: int,
) -> Generator[NDArray[np.uint8], None, None]:
    """Yield the images (S, S, 3) that decode, after their hash went to `accepted`."""
    with closing(images.draw_many(wanted, square, threads)) as drawn:
        for image, result in zip(wanted, drawn, strict=True):
            if isinstance(result, BadImage):
                refused.append((image, str(result)))
            else:
                accepted.append(image.sha256)
                tones.add(image.path, result.levels)
                yield result.pixels
