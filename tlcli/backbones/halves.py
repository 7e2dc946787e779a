"""A network in two halves: what is frozen while it is trained, and what learns."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tlcli.backbones.graph import nodes
from tlcli.backbones.runtime import keras_module


@dataclass(frozen=True, eq=False)
class Halves:
    """Both halves, of the very layers of the network."""

    lower: Any
    """A `keras.Model`: images (n, S, S, 3) → what the upper half is given of them, end to end in
    rows (n, W), those of the mirror images behind the others where it sees both."""
    upper: Any
    """A `keras.Model`: the tensors that `rows` are made of → features (n, D)."""
    shapes: tuple[tuple[int, ...], ...]
    """Of these tensors for one view. There are several where a shortcut crosses the cut."""
    views: int
    """Of an image, that go through the network side by side, see `reading`."""

    @property
    def width(self) -> int:
        """W, how many floats stand for an image."""
        return self.views * sum(math.prod(shape) for shape in self.shapes)

    def features(self, rows: Any, training: bool) -> Any:
        """Features (n, D) of rows (n, W); called while a graph is built."""
        keras = keras_module()
        parts, start = [], 0
        rows = _each(rows, self.views)
        for shape in self.shapes:
            end = start + math.prod(shape)
            parts.append(keras.ops.reshape(rows[:, start:end], (-1, *shape)))
            start = end
        return self.upper(parts, training=training)


def halves(model: Any, learning: Collection[str]) -> Halves | None:
    """Cut a network below the layers that learn.

    Args:
        model: a functional `keras.Model` with one input; its layers stay its own.
        learning: the names of these layers.

    Returns:
        None where nothing with weights is below them.
    """
    keras = keras_module()
    below, crossing = _crossing(model, learning)
    if not any(operation.weights for operation in below):
        return None
    upper = keras.Model(crossing, model.output)
    flat = [
        keras.layers.Flatten(name=f"frozen_part_{place}")(tensor)
        for place, tensor in enumerate(crossing)
    ]
    rows = flat[0] if len(flat) == 1 else keras.layers.Concatenate(name="frozen_parts")(flat)
    shapes = tuple(tuple(tensor.shape[1:]) for tensor in crossing)
    image, side = model.inputs[0], model.input_shape[1]
    views = len(keras.Model(image, rows)(keras.ops.zeros((1, side, side, 3))))
    return Halves(keras.Model(image, _beside(rows, views)), upper, shapes, views)


def _beside(rows: Any, views: int) -> Any:
    """From (views · n, V), one view of all images after the other, to (n, views · V)."""
    ops, width = keras_module().ops, rows.shape[1]
    if views == 1:
        return rows
    apart = ops.transpose(ops.reshape(rows, (views, -1, width)), (1, 0, 2))
    return ops.reshape(apart, (-1, views * width))


def _each(rows: Any, views: int) -> Any:
    """From (n, views · V) to (views · n, V), see `_beside`."""
    ops, width = keras_module().ops, rows.shape[1] // views
    if views == 1:
        return rows
    apart = ops.transpose(ops.reshape(rows, (-1, views, width)), (1, 0, 2))
    return ops.reshape(apart, (-1, width))


def _crossing(model: Any, learning: Collection[str]) -> tuple[list[Any], list[Any]]:
    """The layers that nothing that learns feeds, and the tensors that they hand over."""
    moving: set[int] = set()
    handed: dict[int, Any] = {}
    below = []
    for node in nodes(model):
        given = node.input_tensors
        moves = node.operation.name in learning or any(id(tensor) in moving for tensor in given)
        if moves:
            moving |= {id(tensor) for tensor in node.outputs}
            handed |= {id(tensor): tensor for tensor in given if id(tensor) not in moving}
        elif isinstance(node.operation, keras_module().layers.Layer):
            below.append(node.operation)
    return below, list(handed.values())
