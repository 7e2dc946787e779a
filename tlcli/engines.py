"""Engines: the frozen forward pass of a stored backbone, from raw images to feature vectors."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones

BATCH = 32
"""Images a batch. Batches are always full (see `features`): an image's features are then the same
bits whatever stands beside it."""


class Engine(Protocol):
    """Turns batches of raw images into batches of feature vectors."""

    def features(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Feature vectors (BATCH, D) for each batch (BATCH, S, S, 3), in input order."""
        ...


@dataclass(frozen=True)
class KerasEngine:
    """The reference: the backbone run by Keras on whatever device TensorFlow finds."""

    predict: Any

    def features(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """See `Engine`."""
        for batch in batches:
            yield np.asarray(self.predict(batch.astype(np.float32)), np.float32)


def open_engine(stored: backbones.StoredBackbone) -> Engine:
    """The engine for a stored backbone.

    Raises:
        RunError: the backbone's files are damaged.
    """
    stored.verify()
    return of_model(backbones.load_model(stored))


def of_model(model: Any) -> KerasEngine:
    """The Keras engine of a model that is in memory already."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def predict(batch: Any) -> Any:
        return model(batch, training=False)

    return KerasEngine(predict)
