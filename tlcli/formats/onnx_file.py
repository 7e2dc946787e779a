"""onnx: one `.onnx` file; "classes" and "images", both JSON, in its metadata."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.formats.source import OUTPUT, Source


def write(source: Source, path: Path) -> None:
    """Write the file: image → probabilities."""
    model = _portable(source.model())
    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports what was called once
    model.export(str(path), format="onnx", verbose=False)
    onnx = importlib.import_module("onnx")
    proto = onnx.load(str(path))
    _name_output(proto.graph)
    classes = json.dumps(source.classes, ensure_ascii=False)
    onnx.helper.set_model_props(proto, {"classes": classes, "images": source.drawing})
    onnx.save(proto, str(path))


def _name_output(graph: Any) -> None:
    """Give the one output its name; the converter's is the operation's."""
    (output,) = graph.output
    for node in graph.node:
        node.output[:] = [OUTPUT if name == output.name else name for name in node.output]
        node.input[:] = [OUTPUT if name == output.name else name for name in node.input]
    output.name = OUTPUT


def _portable(model: Any) -> Any:
    """The same function without what the converter cannot express."""
    equals = {layer.name: equal for layer in model.layers if (equal := _equal(layer)) is not None}
    if not equals:
        return model

    def replaced(layer: Any) -> Any:
        return equals.get(layer.name) or layer.__class__.from_config(layer.get_config())

    portable = backbones.keras_module().models.clone_model(model, clone_function=replaced)
    for layer in portable.layers:
        weights = model.get_layer(layer.name).get_weights() if layer.weights else []
        layer.set_weights(
            [values.reshape(own.shape) for values, own in zip(weights, layer.weights, strict=True)]
        )
    return portable


def _equal(layer: Any) -> Any:
    """A layer of equal function that ONNX has, or None where the layer needs none.

    A Normalization becomes a Rescaling, and GELU is written with erf: TensorFlow turns Keras' own
    into erfc, which ONNX does not have. A convolution of as many groups as channels becomes a
    depthwise one, because Keras compiles those with groups into a function of its own.
    """
    keras = backbones.keras_module()
    if isinstance(layer, keras.layers.Normalization):
        deviation = np.maximum(np.sqrt(np.ravel(layer.variance)), keras.config.epsilon())
        offset = -np.ravel(layer.mean) / deviation
        return keras.layers.Rescaling((1 / deviation).tolist(), offset.tolist(), name=layer.name)
    if getattr(layer, "activation", None) is keras.activations.gelu:
        return keras.layers.Activation(_gelu, name=layer.name)
    if type(layer) is keras.layers.Conv2D and 1 < layer.groups == layer.filters:
        names = ("kernel_size", "strides", "padding", "dilation_rate", "activation", "use_bias")
        config = layer.get_config()
        options = {name: config[name] for name in names}
        return keras.layers.DepthwiseConv2D(name=layer.name, **options)
    return None


def _gelu(x: Any) -> Any:
    erf = backbones.keras_module().ops.erf
    return 0.5 * x * (1.0 + erf(x * 0.5**0.5))


def run(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (n, C) of images (n, S, S, 3), by ONNX Runtime."""
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT], {"image": images})[0], np.float32)
