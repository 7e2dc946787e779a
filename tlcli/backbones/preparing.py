"""Raw RGB → what a network was trained on, as Keras layers and operations without weights.

Every Keras can load them; a Rescaling stands for a Normalization, which some export formats cannot
run.
"""

from typing import Any

from tlcli.backbones import table
from tlcli.backbones.runtime import keras_module

_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_LUMA = (0.299, 0.587, 0.114)
"""ITU-R 601-2, as Pillow and TensorFlow turn colours into grey."""


def raw(image: Any) -> Any:
    """0 to 255 as they are."""
    return image


def to_unit(image: Any) -> Any:
    """0 to 1."""
    return _rescaling(1 / 255, 0.0)(image)


def tf(image: Any) -> Any:
    """-1 to 1."""
    return _rescaling(1 / 127.5, -1.0)(image)


def torch(image: Any) -> Any:
    """ImageNet's mean becomes 0 and its deviation 1."""
    statistics = list(zip(table.IMAGENET_MEAN, table.IMAGENET_DEVIATION, strict=True))
    scale = [1 / (255 * deviation) for _, deviation in statistics]
    offset = [-mean / deviation for mean, deviation in statistics]
    return _rescaling(scale, offset)(image)


def caffe(image: Any) -> Any:
    """BGR, less the mean of ImageNet."""
    bgr = keras_module().ops.flip(image, axis=-1)
    return _rescaling(1.0, [-mean for mean in _CAFFE_MEAN_BGR])(bgr)


def lite(image: Any) -> Any:
    """About -1 to 1."""
    return _rescaling(1 / 128, -127 / 128)(image)


def grey(image: Any) -> Any:
    """One channel, 0 to 255, of colours (None, S, S, 3)."""
    keras = keras_module()
    weighed = keras.layers.Rescaling(list(_LUMA), name="luma")(image)
    return keras.ops.sum(weighed, axis=-1, keepdims=True)


def _rescaling(scale: Any, offset: Any) -> Any:
    return keras_module().layers.Rescaling(scale, offset=offset, name="preprocessing")
