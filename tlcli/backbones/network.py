"""Backbones as Keras models: build, divide into blocks, fingerprint."""

import contextlib
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlcli.backbones import lite, preparing
from tlcli.backbones.hdf5_layers import role
from tlcli.backbones.runtime import keras_module
from tlcli.backbones.table import (
    BACKBONES,
    Architecture,
    BlockNames,
    Preprocessing,
    architecture,
)
from tlcli.backbones.weights import Weights
from tlcli.errors import UsageError


def build(name: str, image_size: int | None, weights: Weights, seed: int = 0) -> Any:
    """Return a backbone without its top as a `keras.Model`, for inference.

    Raw RGB in 0..255 (None, S, S, 3) goes in, any dtype; the globally averaged feature
    vector (None, D) float32 comes out. Preprocessing is part of the model, and the layers
    of the application stand in it directly, not in a model nested within, so that blocks
    can be unfrozen by name.

    Args:
        name: a row of `BACKBONES`.
        image_size: S in pixels; None for the size the network was designed for.
        weights: where they come from.
        seed: seed of the random weights.

    Raises:
        UsageError: unknown name, too small a size, a file that does not fit.
        WeightsUnavailable: ImageNet weights are neither here nor downloadable.
    """
    row = architecture(name)
    size = _checked_size(row, image_size)
    weights.check()
    model = _assemble(row, size, seed)
    weights.load(model, row)
    return model


def _checked_size(row: Architecture, image_size: int | None) -> int:
    size = row.image_size if image_size is None else image_size
    if size < row.smallest:
        raise UsageError(
            f"Expected images of at least {row.smallest} pixels for {row.name}. "
            f"Received: image_size={size}. Choose {row.smallest} or more "
            f"({row.image_size} is its own size)."
        )
    return size


def _assemble(row: Architecture, size: int, seed: int) -> Any:
    keras = keras_module()
    image = keras.Input((size, size, 3), name="image")
    prepared = PREPARE[row.preprocessing](image)
    with _seeded(seed):
        if row.builder:
            vector = _application(row, prepared, size)
        else:
            vector = lite.features(row.name, prepared)
    return keras.Model(image, vector, name=row.name)


def _application(row: Architecture, prepared: Any, size: int) -> Any:
    constructor = getattr(keras_module().applications, row.builder)
    model = constructor(
        include_top=False,
        weights=None,
        pooling="avg",
        input_tensor=prepared,
        input_shape=(size, size, 3),
    )
    return model.output


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Keras' initializers, which draw their seeds from `random`, for the block."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


PREPARE: dict[Preprocessing, Callable[[Any], Any]] = {
    "raw": preparing.raw,
    "tf": preparing.tf,
    "torch": preparing.torch,
    "caffe": preparing.caffe,
    "lite": preparing.lite,
}


@dataclass(frozen=True)
class Block:
    """A part of a backbone: what `--unfreeze` counts.

    Attributes:
        layers: names of its layers that have weights, from the input on.
    """

    name: str
    layers: tuple[str, ...]


def blocks(model: Any, name: str) -> list[Block]:
    """Return the blocks of a backbone, from the input to the top.

    Args:
        model: what `build` or `load_model` returned.
        name: its row in `BACKBONES`, or `ADOPTED`.
    """
    names = BACKBONES[name].block_names if name in BACKBONES else _names_in(model)
    members: dict[str, list[str]] = {}
    for block, layer in labelled(model.layers, names):
        if layer.weights:
            members.setdefault(block, []).append(layer.name)
    return [Block(block, tuple(layers)) for block, layers in members.items()]


def _names_in(model: Any) -> BlockNames:
    """How the blocks of a network that was trained elsewhere are named.

    As in the row of the table that knows most of its layers; where that is less than half of
    them, a layer with a kernel opens a block.
    """
    weighted = [layer for layer in model.layers if layer.weights]
    known = {row.block_names for row in BACKBONES.values()}

    def count(names: BlockNames) -> int:
        return sum(bool(re.search(names.pattern, layer.name)) for layer in weighted)

    best = max(sorted(known, key=lambda names: names.pattern), key=count)
    if 2 * count(best) >= len(weighted):
        return best
    opening = [layer.name for layer in weighted if "kernel" in map(role, layer.weights)]
    return BlockNames(f"^({'|'.join(map(re.escape, opening))})$")


def labelled(layers: Sequence[Any], names: BlockNames) -> list[tuple[str, Any]]:
    """Return (block, layer); a layer without a block's name is in the block before it.

    Where names end a block, the rule is read from the other end: such a layer is in the
    block after it, or in the last one.
    """
    found = [re.search(names.pattern, layer.name) for layer in layers]
    labels = [match.group(1) if match else None for match in found]
    if names.at_end:
        filled = list(_carried(reversed(labels), _last(labels)))[::-1]
    else:
        filled = list(_carried(labels, "stem"))
    return list(zip(filled, layers, strict=True))


def _last(labels: list[str | None]) -> str:
    return next((label for label in reversed(labels) if label), "stem")


def _carried(labels: Any, first: str) -> Iterator[str]:
    current = first
    for label in labels:
        current = label or current
        yield current


def statistics(model: Any) -> str:
    """Return a SHA-256 (hex) of all weights of BatchNormalization: statistics, scales, offsets."""
    digest = hashlib.sha256()
    for layer in model.layers:
        if isinstance(layer, keras_module().layers.BatchNormalization):
            for values in layer.get_weights():
                digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def fingerprint(model: Any, name: str) -> str:
    """Return a SHA-256 (hex) that is equal exactly for backbones of equal function.

    It covers the name, the image size, the preprocessing, and of every weight in order
    its role, dtype, shape and bytes; not the names that Keras makes up for layers. Of a
    network that is in no row of the table it covers the layers and how they are connected.
    """
    digest = hashlib.sha256()
    row = BACKBONES.get(name)
    function = _graph(model) if row is None else row.preprocessing
    digest.update(f"{name}\n{model.input_shape[1]}\n{function}\n".encode())
    for variable in model.weights:
        values = np.ascontiguousarray(variable.numpy())
        shape = "x".join(str(size) for size in values.shape)
        digest.update(f"{role(variable)} {values.dtype.str} {shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _graph(model: Any) -> str:
    """The layers of a model and how they are connected, without their names."""
    config = keras_module().saving.serialize_keras_object(model)
    places = {operation.name: f"#{place}" for place, operation in enumerate(model.operations)}
    places[model.name] = "#"
    return json.dumps(_renamed(config, places), sort_keys=True)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _renamed(child, names) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(child, names) for child in value]
    return names.get(value, value) if isinstance(value, str) else value
