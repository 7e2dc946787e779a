"""One step of a training with labels, compiled: on one device, or shared by several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.training.learner import Group, apply_gradients, descend
from tlcli.training.order import Columns

Step = Callable[[NDArray[Any], Columns, float], tuple[float, float]]
"""See `Learner.step`."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What a step consists of. All but `batch` is called while a graph is built."""

    change: Callable[[Any, Any], tuple[Any, Any]]
    """(pixels (n, S, S, 3), class columns (n,)) → what is learned: images, targets."""
    measure: Callable[[Any, Any], tuple[Any, Any]]
    """(images, targets) → their mean loss, the share of right answers."""
    groups: Sequence[Group]
    clip_norm: float
    batch: Any
    """Of what stands for images in a step: a `tf.TensorSpec`."""

    @property
    def signature(self) -> list[Any]:
        """Of what all steps are given: pixels, columns, learning rate of the head."""
        import tensorflow as tf

        return [
            self.batch,
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((), tf.float32),
        ]


def on_one_device(parts: Parts) -> Step:
    """The step as it is."""
    import tensorflow as tf

    @tf.function(input_signature=parts.signature)  # type: ignore[untyped-decorator]
    def graph(pixels: Any, columns: Any, rate: Any) -> tuple[Any, Any]:
        images, targets = parts.change(pixels, columns)
        with tf.GradientTape() as tape:
            loss, hits = parts.measure(images, targets)
        apply_gradients(tape, loss, parts.groups, rate, parts.clip_norm)
        return loss, hits

    def step(pixels: NDArray[Any], columns: Columns, rate: float) -> tuple[float, float]:
        loss, hits = graph(pixels, columns, np.float32(rate))
        return float(loss), float(hits)

    return step


def on_replicas(parts: Parts, strategy: Any) -> Step:
    """The same step, each replica with a slice of the batch.

    Every process is given the whole batch and changes it alike, so that what is learned does not
    depend on the number of replicas. The loss is the sum over the images of all replicas divided
    by their true number, however uneven the slices are.

    Args:
        parts: of the step; their variables belong to the strategy.
        strategy: a `tf.distribute.Strategy` that is not in scope.
    """
    import tensorflow as tf

    count = strategy.num_replicas_in_sync
    bounds_spec = tf.TensorSpec((count + 1,), tf.int32)

    @tf.function(input_signature=[*parts.signature, bounds_spec])  # type: ignore[untyped-decorator]
    def graph(pixels: Any, columns: Any, rate: Any, bounds: Any) -> tuple[Any, Any]:
        images, targets = parts.change(pixels, columns)

        def replica() -> Any:
            context = tf.distribute.get_replica_context()
            rows, share = _slice_of(bounds, context.replica_id_in_sync_group)
            with tf.GradientTape() as tape:
                loss, hits = parts.measure(images[rows], targets[rows])
                loss *= share
            variables = [v.value for group in parts.groups for v in group.variables]
            found = [loss, hits * share, *tape.gradient(loss, variables)]
            return context.all_reduce(tf.distribute.ReduceOp.SUM, found)

        # Outside of the replicas Keras' optimizers do not add up what is summed already.
        summed = [strategy.experimental_local_results(v)[0] for v in strategy.run(replica)]
        descend(summed[2:], parts.groups, rate, parts.clip_norm)
        return summed[0], summed[1]

    def step(pixels: NDArray[Any], columns: Columns, rate: float) -> tuple[float, float]:
        loss, hits = graph(pixels, columns, np.float32(rate), bounds_of(len(pixels), count))
        return float(loss), float(hits)

    return step


def bounds_of(images: int, replicas: int) -> NDArray[np.int32]:
    """Where the slices of a batch begin and end, (replicas + 1,); they differ by one image."""
    return (np.arange(replicas + 1) * images // replicas).astype(np.int32)


def _slice_of(bounds: Any, place: Any) -> tuple[Any, Any]:
    """The slice of a replica and its share of the batch.

    A replica without images computes one that counts nothing: an empty batch has no mean.
    """
    import tensorflow as tf

    total = bounds[-1]
    count = bounds[place + 1] - bounds[place]
    first = tf.minimum(bounds[place], total - 1)
    share = tf.cast(count, tf.float32) / tf.cast(total, tf.float32)
    return slice(first, first + tf.maximum(count, 1)), share
