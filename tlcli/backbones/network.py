"""Backbones as Keras models: build, divide into blocks, fingerprint."""

import contextlib
import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlcli.backbones import lite0, table
from tlcli.backbones.hdf5_layers import role
from tlcli.backbones.runtime import keras_module
from tlcli.backbones.table import Architecture, BlockNames, Preprocessing, architecture
from tlcli.backbones.weights import Weights
from tlcli.errors import UsageError

_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


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
    prepared = _PREPARE[row.preprocessing](image)
    with _seeded(seed):
        vector = _application(row, prepared, size) if row.builder else lite0.features(prepared)
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


def _rescaling(scale: Any, offset: Any) -> Any:
    return keras_module().layers.Rescaling(scale, offset=offset, name="preprocessing")


def _prepare_raw(image: Any) -> Any:
    return image


def _prepare_tf(image: Any) -> Any:
    return _rescaling(1 / 127.5, -1.0)(image)


def _prepare_torch(image: Any) -> Any:
    statistics = list(zip(table.IMAGENET_MEAN, table.IMAGENET_DEVIATION, strict=True))
    scale = [1 / (255 * deviation) for _, deviation in statistics]
    offset = [-mean / deviation for mean, deviation in statistics]
    return _rescaling(scale, offset)(image)


def _prepare_caffe(image: Any) -> Any:
    bgr = keras_module().ops.flip(image, axis=-1)
    return _rescaling(1.0, [-mean for mean in _CAFFE_MEAN_BGR])(bgr)


def _prepare_lite(image: Any) -> Any:
    return _rescaling(1 / 128, -127 / 128)(image)


# Layers and operations without weights that every Keras can load; a Rescaling rather than
# a Normalization, which some export formats cannot run.
_PREPARE: dict[Preprocessing, Callable[[Any], Any]] = {
    "raw": _prepare_raw,
    "tf": _prepare_tf,
    "torch": _prepare_torch,
    "caffe": _prepare_caffe,
    "lite": _prepare_lite,
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
        name: its row in `BACKBONES`.
    """
    names = architecture(name).block_names
    members: dict[str, list[str]] = {}
    for block, layer in _blocks_of_layers(model.layers, names):
        if layer.weights:
            members.setdefault(block, []).append(layer.name)
    return [Block(block, tuple(layers)) for block, layers in members.items()]


def _blocks_of_layers(layers: list[Any], names: BlockNames) -> list[tuple[str, Any]]:
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
    its role, dtype, shape and bytes; not the names that Keras makes up for layers.
    """
    row = architecture(name)
    digest = hashlib.sha256()
    digest.update(f"{name}\n{model.input_shape[1]}\n{row.preprocessing}\n".encode())
    for variable in model.weights:
        values = np.ascontiguousarray(variable.numpy())
        shape = "x".join(str(size) for size in values.shape)
        digest.update(f"{role(variable)} {values.dtype.str} {shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
