"""EfficientNet-Lite as an OpenVINO network, made of its published weights without Keras.

Batch normalisation is folded into the convolutions in IEEE arithmetic, float32, one operation at a
time: the same constants on every processor, which TensorFlow's own folding does not promise.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.backbones.lite import EPSILON, Residual, blocks_of
from tlcli.backbones.runtime import openvino_module

Float32 = NDArray[np.float32]
Weights = Mapping[str, tuple[Float32, ...]]
"""Those of every layer, by its name in Keras and in Keras' order and shapes."""


def network(name: str, size: int, weights: Weights) -> Any:
    """Return an `openvino.Model`: (n, S, S, 3) raw RGB float32 in, features (n, D) out.

    Args:
        name: a row of `BACKBONES`.
        size: S in pixels.
        weights: see `lite.imagenet_weights`.
    """
    graph = _Graph(weights)
    image = graph.ops.parameter([-1, size, size, 3], np.float32, name="image")
    x = graph.ops.transpose(image, np.array([0, 3, 1, 2], np.int64))
    x = graph.ops.multiply(x, _constant(1 / 128))
    x = graph.ops.add(x, _constant(-127 / 128))
    x = graph.convolution(x, "stem", "stem_conv", stride=2)
    for block in blocks_of(name):
        x = graph.residual(x, block)
    x = graph.convolution(x, "top", "top_conv")
    vector = graph.ops.reduce_mean(x, np.array([2, 3], np.int32), keep_dims=False)
    vector.output(0).set_names({"features"})
    image.output(0).set_names({"image"})
    return openvino_module().Model([vector], [image], name)


def _constant(value: float) -> Float32:
    return np.full((1, 1, 1, 1), value, np.float32)


class _Graph:
    """The layers of the network, by their names in Keras."""

    def __init__(self, weights: Weights) -> None:
        self.ops = openvino_module().opset13
        self._weights = weights

    def residual(self, inputs: Any, block: Residual) -> Any:
        """An inverted residual block."""
        x = inputs
        if block.expansion != 1:
            x = self.convolution(x, f"{block.name}_expand", f"{block.name}_expand_conv")
        x = self._depthwise(x, block)
        x = self.convolution(
            x, f"{block.name}_project", f"{block.name}_project_conv", activated=False
        )
        return self.ops.add(x, inputs) if block.adds else x

    def convolution(
        self, x: Any, name: str, layer: str, stride: int = 1, activated: bool = True
    ) -> Any:
        """A convolution with its batch normalisation; `name` is that of the latter."""
        (kernel,) = self._weights[layer]
        scale, bias = self._folded(f"{name}_bn")
        folded = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)) * scale[:, None, None, None]
        x = self.ops.convolution(x, folded, *_places(stride), auto_pad="same_upper")
        return self._activated(x, bias, activated)

    def _depthwise(self, x: Any, block: Residual) -> Any:
        (kernel,) = self._weights[f"{block.name}_dwconv"]
        scale, bias = self._folded(f"{block.name}_bn")
        folded = kernel.transpose(2, 3, 0, 1)[:, :, None] * scale[:, None, None, None, None]
        folded = np.ascontiguousarray(folded)
        x = self.ops.group_convolution(x, folded, *_places(block.stride), auto_pad="same_upper")
        return self._activated(x, bias, activated=True)

    def _folded(self, layer: str) -> tuple[Float32, Float32]:
        """Scale and bias (C,) that a batch normalisation comes to."""
        gamma, beta, mean, variance = self._weights[layer]
        scale = gamma / np.sqrt(variance + np.float32(EPSILON))
        return scale, beta - mean * scale

    def _activated(self, x: Any, bias: Float32, activated: bool) -> Any:
        x = self.ops.add(x, bias[None, :, None, None])
        return self.ops.clamp(x, 0.0, 6.0) if activated else x


def _places(stride: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, padding at both ends, which is set by `auto_pad`, and dilations."""
    return [stride, stride], [0, 0], [0, 0], [1, 1]


def export(name: str, size: int, weights: Weights, xml: Path) -> None:
    """Write the network as two files beside each other: the same bytes every time.

    Raises:
        Exception: whatever OpenVINO raises.
    """
    made = network(name, size, weights)
    for index, operation in enumerate(made.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{index}")
    openvino_module().serialize(made, xml, xml.with_suffix(".bin"))
