"""A backbone as a run sees through it: engines, the cache of features, the projection."""

import logging
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones, cluster, engines, features, moments, runs
from tlcli.backbones import StoredBackbone
from tlcli.config import Progress, RunsOn
from tlcli.engines import Choice
from tlcli.errors import EngineUnavailable, RunError
from tlcli.features import (
    Examples,
    Features,
    Kind,
    LearnedProjection,
    Matrix,
    Projected,
    Projection,
    Space,
    Store,
    Vectors,
    learned,
)
from tlcli.images import DECODER, ImageFile, Square
from tlcli.manifest import Manifest
from tlcli.runs import Round, Run

log = logging.getLogger(__name__)

T = TypeVar("T")
Image = TypeVar("Image", bound=ImageFile)

Load = Callable[[Sequence[str]], NDArray[np.uint8]]
"""From content hashes to images (n, S, S, 3)."""

_CHUNK = 128
"""Images that are loaded at once."""

PROJECTION_WIDTH = 2048
"""Of a head that needs a projection, where none was asked for."""

MOST_SATURATED = 1e-3
"""Share of feature values off the fixed-point grid above which there is a warning."""


def backbone_of(run: Run, manifest: Manifest) -> StoredBackbone:
    """The backbone that a round was made with.

    Raises:
        RunError: it is missing or damaged, or it is another one.
    """
    name, fingerprint = manifest.backbone, manifest.backbone_fingerprint
    return backbones.load_stored(run.backbone_folder(fingerprint)).require(name, fingerprint)


def require_computable(runs_on: RunsOn) -> None:
    """Refuse, before anything is begun, what features cannot be computed on.

    Raises:
        UsageError: there is no such engine.
        ClusterUnavailable: there is no such cluster.
    """
    engines.require_known(runs_on.engine)
    if runs_on.cluster is not None:
        cluster.connect(runs_on.cluster)


def learned_projection(run: Run, entry: Round) -> LearnedProjection | None:
    """The learned projection of a round; None where it has none.

    Raises:
        RunError: it is missing or damaged, or of another backbone.
    """
    manifest = entry.manifest
    if manifest.learned_projection is None:
        return None
    path = run.projection_file(manifest.learned_projection)
    runs.require_own(path, stat.S_ISREG)
    found = learned.load(path, manifest.learned_projection)
    if found.backbone != manifest.backbone_fingerprint:
        raise RunError(
            f"Expected a projection of features of the backbone. Received: {path}, which is of "
            "those of another. Restore the run from a copy."
        )
    return found


def warn_of_projection(before: "Extractor") -> None:
    """Say that a learned projection does not go along where the backbone or its images change."""
    if before.learned is not None:
        log.warning(
            "the learned projection stays behind, as it is of what the run was before: train one "
            "again with `tlcli finetune --objective`"
        )


@dataclass(frozen=True)
class Extractor:
    """A stored backbone with the engines that may run it, and the projection of its features."""

    stored: StoredBackbone
    engines: list[Choice]
    """The best first; those that failed are dropped."""
    projection: Projection | None
    learned: str | None = None
    """Fingerprint of the learned projection, which descriptors may use and heads do not."""
    _stores: dict[str, Store] = field(default_factory=dict)
    """By the engine's name; made when one is wanted, as it takes the engine's arithmetic."""
    _lock: Lock = field(default_factory=Lock)

    @staticmethod
    def of(stored: StoredBackbone, runs_on: RunsOn, projection: Projection | None) -> "Extractor":
        """An engine is opened at the first image that is not in the cache, and once.

        Raises:
            UsageError: there is no such engine, or it cannot run this backbone.
            ClusterUnavailable: there is no such cluster.
        """
        if runs_on.cluster is not None:
            return Extractor(stored, cluster.choices(stored, runs_on), projection)
        return Extractor(stored, engines.choices(stored, runs_on.engine), projection)

    @staticmethod
    def of_round(run: Run, entry: Round, runs_on: RunsOn) -> "Extractor":
        """The one that a round was made with."""
        stored = backbone_of(run, entry.manifest)
        facts = entry.manifest.projection
        projection = Projection(**facts) if facts else None
        if projection is not None and projection.bits != stored.fixed_point_bits:
            raise RunError(
                f"Expected a projection of features of {stored.fixed_point_bits} bits. Received: "
                f"{entry.folder} with {projection.bits} bits. Restore the run from a copy."
            )
        return replace(
            Extractor.of(stored, runs_on, projection), learned=entry.manifest.learned_projection
        )

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
    def square(self) -> Square:
        """What images are drawn to."""
        return Square.of(self.stored.image_size, self.stored.drawing)

    @property
    def kind(self) -> Kind:
        """The kind of the features that are computed here and now.

        Raises:
            EngineUnavailable: no engine runs the backbone on this machine.
        """
        return Kind(self._run(lambda engine: engine.arithmetic()), DECODER)

    def _store(self, engine: Choice) -> Store:
        """The cache of the features that an engine computes."""
        with self._lock:
            if engine.name not in self._stores:
                stored = self.stored
                kind = Kind(engine.arithmetic(), DECODER)
                self._stores[engine.name] = Store(
                    Space(stored.fingerprint, stored.width, stored.name, kind, self.square)
                )
            return self._stores[engine.name]

    def features(self, wanted: Sequence[Image], progress: Progress) -> Features[Image]:
        """The backbone's features of images, before the projection.

        Raises:
            EngineUnavailable: no engine runs the backbone on this machine.
        """
        return self._run(
            lambda engine: features.extract(
                wanted, self._store(engine), engine.open, progress, engine.files
            )
        )

    def features_of(
        self, named: Examples, load: Load, foreign: Collection[str], progress: Progress
    ) -> Examples:
        """The backbone's features of images that are named by their content hashes.

        Args:
            named: their vectors, those of another backbone, are not looked at.
            load: gives the pixels of images.
            foreign: content hashes of those whose pixels another decoder gave: what comes of them
                is not what the cache has, or should have, of the files.
            progress: told the phase "features".

        Raises:
            EngineUnavailable: no engine runs the backbone on this machine.
        """
        own = named.without(foreign)
        vectors = self._run(
            lambda engine: features.extract_pixels(
                own.hashes, load, self._store(engine), engine.open, progress
            )
        )
        found = replace(own, vectors=vectors).joined(self._uncached(named.only(foreign), load))
        places = {key: place for place, key in enumerate(found.hashes)}
        return found.take([places[key] for key in named.hashes])

    def _uncached(self, named: Examples, load: Load) -> Examples:
        """The features of images, from their pixels each time."""
        starts = range(0, len(named), _CHUNK)
        chunks = [self.features_of_pixels(load(named.hashes[n : n + _CHUNK])) for n in starts]
        nothing = Vectors.of(np.zeros((0, self.stored.width), np.float32))
        return replace(named, vectors=reduce(Vectors.joined, chunks, nothing))

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
