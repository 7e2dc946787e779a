"""Layers that learn, computed in fewer and faster operations: the same but for rounding.

- A convolution of one pixel is one product of matrices.
- A frozen BatchNormalization behind a convolution is a factor of its kernel, and an offset.
- The gradient of a depthwise kernel on a small map is a product of matrices for each channel.
  TensorFlow's own operation takes longer for it than for all the rest of a block.

Layers of other kinds, and those that do not compute in float32, are left alone.
"""

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from tlcli import backbones

Convolve = Callable[[Any, Any], Any]
"""(a batch (n, H, W, C), a kernel) → what the layer makes of it without bias and activation."""

_SMALL_MAP = 64
"""Pixels. The products for each channel grow with the square of their number."""


@contextmanager
def quick(model: Any, learning: Collection[str]) -> Iterator[None]:
    """For the block, call layers of a network the fast way; called while graphs are built.

    Args:
        model: the backbone, in the mode that it is trained in.
        learning: the names of the layers that learn.
    """
    convolutions = {
        layer: convolve
        for layer in model.layers
        if layer.name in learning and (convolve := _convolve(layer)) is not None
    }
    folded = {
        layer: behind
        for layer, behind in backbones.pairs(model)
        if layer in convolutions and _foldable(layer, behind)
    }
    for layer, convolve in convolutions.items():
        layer.call = _call(layer, convolve, folded.get(layer))
    for behind in folded.values():
        behind.call = lambda inputs, **_: inputs
    try:
        yield
    finally:
        for layer in (*convolutions, *folded.values()):
            del layer.call


def _convolve(layer: Any) -> Convolve | None:
    """How a layer convolves; None where it is no plain convolution."""
    layers = backbones.keras_module().layers
    plain = type(layer) in (layers.Conv2D, layers.DepthwiseConv2D)
    if not plain or layer.data_format != "channels_last" or layer.compute_dtype != "float32":
        return None
    if type(layer) is layers.DepthwiseConv2D:
        return _depthwise(layer)
    once = layer.kernel_size == layer.strides == (1, 1) and layer.groups == 1
    return _product if once else layer.convolution_op


def _foldable(layer: Any, behind: Any) -> bool:
    """Whether the second of two layers is one factor and one offset for each channel."""
    keras = backbones.keras_module()
    return (
        isinstance(behind, keras.layers.BatchNormalization)
        and not behind.trainable
        and behind.axis in (-1, 3)
        and layer.activation in (None, keras.activations.linear)
    )


def _call(layer: Any, convolve: Convolve, behind: Any | None) -> Callable[[Any], Any]:
    """A layer's `call`, together with the BatchNormalization behind it where there is one."""

    def call(inputs: Any) -> Any:
        kernel, offset = layer.kernel.value, layer.bias.value if layer.use_bias else None
        if behind is not None:
            factor, shift = _factor_and_shift(behind)
            kernel = kernel * _by_channel(layer, factor)
            offset = shift if offset is None else offset * factor + shift
        outputs = convolve(inputs, kernel)
        if offset is not None:
            outputs = outputs + offset
        return outputs if layer.activation is None else layer.activation(outputs)

    return call


def _factor_and_shift(frozen: Any) -> tuple[Any, Any]:
    """What a BatchNormalization that does not learn does to a channel: two tensors (C,)."""
    import tensorflow as tf

    factor = tf.math.rsqrt(frozen.moving_variance.value + frozen.epsilon)
    if frozen.gamma is not None:
        factor *= frozen.gamma.value
    shift = -frozen.moving_mean.value * factor
    return factor, shift if frozen.beta is None else shift + frozen.beta.value


def _by_channel(layer: Any, factor: Any) -> Any:
    """A factor for each channel of a layer's output, in the shape of its kernel's last axes."""
    import tensorflow as tf

    depthwise = type(layer) is backbones.keras_module().layers.DepthwiseConv2D
    return tf.reshape(factor, layer.kernel.shape[2:]) if depthwise else factor


def _product(inputs: Any, kernel: Any) -> Any:
    """A convolution of one pixel: each is a row of a matrix."""
    import tensorflow as tf

    height, width, channels = inputs.shape[1:]
    matrix = tf.reshape(kernel, kernel.shape[2:])
    products = tf.matmul(tf.reshape(inputs, (-1, channels)), matrix)
    return tf.reshape(products, (-1, height, width, kernel.shape[-1]))


def _depthwise(layer: Any) -> Convolve | None:
    """A depthwise convolution, with the fast gradient where maps are small."""
    if layer.depth_multiplier != 1 or tuple(layer.dilation_rate) != (1, 1):
        return None
    how = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}

    def convolve(inputs: Any, kernel: Any) -> Any:
        import tensorflow as tf

        small = math.prod(inputs.shape[1:3]) <= _SMALL_MAP
        run = _on_small_maps(how) if small else tf.nn.depthwise_conv2d
        return run(inputs, kernel, **({} if small else how))

    return convolve


def _on_small_maps(how: dict[str, Any]) -> Convolve:
    """TensorFlow's depthwise convolution with another gradient of the kernel."""
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolve(inputs: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradients(above: Any) -> tuple[Any, Any]:
            below = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=above, **how
            )
            # How each pixel of the output varies with each of the input, summed over the batch.
            pixels, channels = math.prod(inputs.shape[1:3]), inputs.shape[3]
            given = tf.transpose(tf.reshape(inputs, (-1, pixels, channels)), (2, 1, 0))
            wanted = tf.reshape(above, (-1, math.prod(above.shape[1:3]), channels))
            together = given @ tf.transpose(wanted, (2, 0, 1))
            taps = _taps(inputs.shape[1:3], kernel.shape[:2], how)
            found = tf.matmul(taps, tf.reshape(together, (channels, -1)), True, True)
            return below, tf.reshape(found, kernel.shape)

        return tf.nn.depthwise_conv2d(inputs, kernel, **how), gradients

    return convolve  # type: ignore[no-any-return]


def _taps(shape: Any, size: Any, how: dict[str, Any]) -> Any:
    """Which number of a kernel (T,) leads from a pixel (P,) to one of the output (Q,): (P·Q, T).

    It is what the convolution itself makes of images that are one pixel, with kernels of one
    number.
    """
    import tensorflow as tf

    pixels, numbers = math.prod(shape), math.prod(size)
    images = tf.reshape(tf.eye(pixels), (pixels, *shape, 1))
    kernels = tf.reshape(tf.eye(numbers), (*size, 1, numbers))
    return tf.reshape(tf.nn.depthwise_conv2d(images, kernels, **how), (-1, numbers))
