"""A backbone as a run sees through it: engines, the cache of features, the projection."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones, engines, features, moments
from tlcli.backbones import StoredBackbone
from tlcli.config import Progress, RunsOn
from tlcli.engines import Choice
from tlcli.errors import EngineUnavailable
from tlcli.features import (
    Examples,
    Features,
    Matrix,
    Projected,
    Projection,
    Space,
    Store,
    Vectors,
)
from tlcli.images import ImageFile
from tlcli.runs import Round, Run

log = logging.getLogger(__name__)

T = TypeVar("T")
Image = TypeVar("Image", bound=ImageFile)

Load = Callable[[Sequence[str]], NDArray[np.uint8]]
"""From content hashes to images (n, S, S, 3)."""

PROJECTION_WIDTH = 2048
"""Of a head that needs a projection, where none was asked for."""

MOST_SATURATED = 1e-3
"""Share of feature values off the fixed-point grid above which there is a warning."""


@dataclass(frozen=True)
class Extractor:
    """A stored backbone with the engines that may run it, and the projection of its features."""

    stored: StoredBackbone
    engines: list[Choice]
    """The best first; those that failed are dropped."""
    projection: Projection | None
    _stores: dict[str, Store] = field(default_factory=dict)
    """By the engine's name; made when one is wanted, as it takes the engine's arithmetic."""
    _lock: Lock = field(default_factory=Lock)

    @staticmethod
    def of(stored: StoredBackbone, runs_on: RunsOn, projection: Projection | None) -> "Extractor":
        """An engine is opened at the first image that is not in the cache, and once.

        Raises:
            UsageError: there is no such engine, or it cannot run this backbone.
        """
        return Extractor(stored, engines.choices(stored, runs_on.engine), projection)

    @staticmethod
    def of_round(run: Run, entry: Round, runs_on: RunsOn) -> "Extractor":
        """The one that a round was made with."""
        manifest = entry.manifest
        stored = backbones.load_stored(run.backbone_folder(manifest.backbone_fingerprint))
        projection = Projection(**manifest.projection) if manifest.projection else None
        return Extractor.of(stored, runs_on, projection)

    def through(self, width: int) -> "Extractor":
        """The same behind a projection to this width."""
        return Extractor(self.stored, self.engines, Projection(width, self.stored.fixed_point_bits))

    @property
    def fingerprint(self) -> str:
        """Of the space in which the run's moments and heads live."""
        plain = self.stored.fingerprint
        return plain if self.projection is None else self.projection.fingerprint(plain)

    @property
    def width(self) -> int:
        """D of the features as heads see them."""
        return self.stored.width if self.projection is None else self.projection.width

    @property
    def bits(self) -> int:
        """Features are rounded to multiples of 2^-bits before they go into moments."""
        return self.stored.fixed_point_bits

    @property
    def engine(self) -> str:
        """The name of the engine that gives features now."""
        return self.engines[0].name

    @property
    def arithmetic(self) -> str:
        """The kind of arithmetic that gives features now, see `tlcli.arithmetic`.

        Raises:
            EngineUnavailable: no engine runs the backbone on this machine.
        """
        return self._run(lambda engine: engine.arithmetic())

    def _store(self, engine: Choice) -> Store:
        """The cache of the features that an engine computes."""
        with self._lock:
            if engine.name not in self._stores:
                stored = self.stored
                facts = (stored.fingerprint, stored.image_size, stored.width, stored.name)
                self._stores[engine.name] = Store(Space(*facts, engine.arithmetic()))
            return self._stores[engine.name]

    def features(self, wanted: Sequence[Image], progress: Progress) -> Features[Image]:
        """The backbone's features of images, before the projection.

        Raises:
            EngineUnavailable: no engine runs the backbone on this machine.
        """
        return self._run(
            lambda engine: features.extract(wanted, self._store(engine), engine.open, progress)
        )

    def features_of(self, named: Examples, load: Load, progress: Progress) -> Examples:
        """The backbone's features of images that are named by their content hashes.

        Args:
            named: their vectors, those of another backbone, are not looked at.
            load: gives the pixels of images.
            progress: told the phase "features".

        Raises:
            EngineUnavailable: no engine runs the backbone on this machine.
        """
        vectors = self._run(
            lambda engine: features.extract_pixels(
                named.hashes, load, self._store(engine), engine.open, progress
            )
        )
        return replace(named, vectors=vectors)

    def features_of_pixels(self, pixels: NDArray[np.uint8]) -> Vectors:
        """The backbone's features of images (n, S, S, 3) that are no files; nothing is cached.

        Raises:
            EngineUnavailable: no engine runs the backbone on this machine.
        """
        computed = self._run(lambda engine: list(engine.open().features(iter(pixels))))
        return Vectors.of(np.stack(computed))

    def _run(self, extract: Callable[[Choice], T]) -> T:
        """With the best engine that runs the backbone on this machine."""
        engine = self.engines[0]
        try:
            return extract(engine)
        except EngineUnavailable as error:
            self._drop(engine, error)
            return self._run(extract)

    def _drop(self, engine: Choice, error: EngineUnavailable) -> None:
        """Do without an engine that failed; other threads may have found that out too."""
        name = self.stored.name
        with self._lock:
            if engine is not self.engines[0]:
                return
            if len(self.engines) == 1:
                raise EngineUnavailable(
                    f"Expected to run {name} with {engine.name}. Received: {error}. "
                    "Use another --engine or another machine."
                ) from error
            log.warning("%s runs with Keras, which is slower: %s", name, error)
            del self.engines[0]

    def cached(self, labels: dict[str, str]) -> Examples:
        """The features that the cache has of images of which only the hash is known.

        Args:
            labels: content hash → class.
        """
        return self._run(lambda engine: features.recall(labels, self._store(engine)))

    def no_examples(self) -> Examples:
        """The features of no image."""
        return Examples((), (), Vectors.of(np.zeros((0, self.stored.width), np.float32)))

    def project(self, examples: Examples) -> Examples:
        """Features as heads and moments see them: through the projection, where there is one."""
        return replace(examples, vectors=self.seen(examples.vectors))

    def seen(self, vectors: Matrix) -> Matrix:
        """Vectors (n, D) of the backbone through the projection, where there is one."""
        if self.projection is None:
            return vectors
        assert isinstance(vectors, Vectors)
        return Projected(vectors, self.projection)

    def empty_moments(self) -> moments.Moments:
        """The moments of no image."""
        return moments.empty(self.fingerprint, self.stored.fixed_point_bits, self.width)

    def moments(self, examples: Examples) -> moments.Moments:
        """The moments of the backbone's features, seen through the projection."""
        seen = self.project(examples).vectors
        bits = self.stored.fixed_point_bits
        result = moments.of(seen, examples.labels, self.fingerprint, bits)
        values = seen.shape[0] * seen.shape[1]
        if result.saturated > MOST_SATURATED * values:
            log.warning(
                "%d of %d feature values are beyond what the memory can hold and were cut; "
                "check the accuracy, and try another backbone",
                result.saturated,
                values,
            )
        return result
