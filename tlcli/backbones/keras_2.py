"""What Keras 2 says of a model → what Keras 3 says of the same model.

Configs alone: nothing is built here, and what is not of Keras' own stays as it is.
"""

from collections.abc import Callable, Iterator
from typing import Any

from tlcli.backbones.runtime import keras_module

Config = dict[str, Any]

CONTAINERS = frozenset({"Functional", "Sequential", "Model"})

_SEQUENTIAL, _INPUT, _OPERATION = "Sequential", "InputLayer", "TFOpLambda"
_POLICY, _SEQUENCES = "Policy", frozenset({"__tuple__", "TensorShape"})

_PLACES = ("layers", "initializers", "regularizers", "constraints")

_PACKAGES = frozenset({"keras", "tf_keras"})
_OF_TENSORFLOW = "tensorflow.python.keras"

_ONE_GROUP = {"groups": 1}
_BATCH_FIRST = {"time_major": False}
_NO_NOISE_SHAPE = {"noise_shape": None}
_NO_KERNEL_OPTIONS = {"kernel_regularizer": None, "kernel_constraint": None}

_UNKNOWN_NOW: dict[str, Config] = {
    "DepthwiseConv2D": _ONE_GROUP | _NO_KERNEL_OPTIONS,
    "SeparableConv2D": _ONE_GROUP | _NO_KERNEL_OPTIONS,
    "SeparableConv1D": _ONE_GROUP | _NO_KERNEL_OPTIONS,
    "Conv1DTranspose": _ONE_GROUP,
    "Conv2DTranspose": _ONE_GROUP,
    "LSTM": _BATCH_FIRST,
    "GRU": _BATCH_FIRST,
    "SimpleRNN": _BATCH_FIRST,
    "SpatialDropout1D": _NO_NOISE_SHAPE,
    "SpatialDropout2D": _NO_NOISE_SHAPE,
    "BatchNormalization": {
        **{"renorm": False, "fused": None, "virtual_batch_size": None},
        **{"adjustment": None, "renorm_clipping": None},
    },
}
"""Arguments that Keras 3 does not know, with the value at which they said nothing."""

_SAYS_NOTHING = ("rng_type", "implementation", "batch_input_shape")
"""Arguments that say nothing of what a layer computes, whatever their value."""

_NEVER_TRAINABLE = frozenset({"SpatialDropout1D", "SpatialDropout2D"})
"""Layers without weights that do not know `trainable`."""

_ONE_KERNEL = "kernel_initializer"
"""Of layers with kernels of other names."""

_OTHERWISE = {
    "hard_sigmoid": "Rescaling(0.2, 0.5) and ReLU(1.0) compute",
    "RandomCrop": "Resizing(height, width, crop_to_aspect_ratio=True) computes",
}
"""Activations and layers that answer otherwise in Keras 3, and what answers as they did."""

_RESCALED: dict[str, Callable[[float], tuple[float, float]]] = {
    "math.truediv": lambda number: (1 / number, 0.0),
    "math.divide": lambda number: (1 / number, 0.0),
    "math.multiply": lambda number: (number, 0.0),
    "math.subtract": lambda number: (1.0, -number),
    "math.add": lambda number: (1.0, number),
    "__operators__.add": lambda number: (1.0, number),
}
"""Arithmetic with a number: the scale and the offset of a Rescaling that computes it."""


def upgraded(config: Any) -> Any:
    """A config of Keras 2 as Keras 3 reads it."""
    if isinstance(config, list):
        return [upgraded(entry) for entry in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == _SEQUENTIAL:
        config = _with_input(config)
    found = {key: upgraded(value) for key, value in config.items()}
    kind, inner = found.get("class_name"), found.get("config")
    if kind in _SEQUENCES:
        return found.get("items")
    if not isinstance(kind, str) or not isinstance(inner, dict):
        return found
    if kind == _POLICY:
        return inner.get("name")
    if kind == _OPERATION:
        return _rescaling(found)
    return _container(found) if kind in CONTAINERS else _own(found)


def otherwise(config: Any) -> Iterator[tuple[str, str, str]]:
    """Yield what answers otherwise in Keras 3: the layer, what it has, and what to put there."""
    if isinstance(config, dict):
        inner = config.get("config")
        if "class_name" in config and isinstance(inner, dict) and _is_of_keras(config):
            named = (_name(value) for key, value in inner.items() if "activation" in key)
            for what in (config["class_name"], *named):
                if isinstance(what, str) and what in _OTHERWISE:
                    yield str(inner.get("name")), what, _OTHERWISE[what]
        config = list(config.values())
    if isinstance(config, list):
        for entry in config:
            yield from otherwise(entry)


def _name(activation: Any) -> Any:
    """Of an activation, which may be spelt out as an object."""
    return activation.get("config") if isinstance(activation, dict) else activation


def layer_name(name: str) -> str:
    """What Keras 3 calls a layer, as it takes no `/`."""
    return name.replace("/", "_")


def _own(found: Config) -> Config:
    """A layer, or what belongs to one."""
    kind, inner = found["class_name"], found["config"]
    place = _place_of(kind, found)
    if place is None:
        return found
    if kind != _INPUT:
        inner = {key: value for key, value in inner.items() if not _is_idle(kind, key, value)}
    if isinstance(inner.get("name"), str):
        inner = inner | {"name": layer_name(inner["name"])}
    axis = inner.get("axis")
    if kind == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        inner = inner | {"axis": axis[0]}
    return found | {"module": f"keras.{place}", "registered_name": None, "config": inner}


def _place_of(kind: str, found: Config) -> str | None:
    """Where Keras has a class of this name; None where it is of somebody else."""
    if not _is_of_keras(found):
        return None
    keras = keras_module()
    return next((place for place in _PLACES if hasattr(getattr(keras, place), kind)), None)


def _is_of_keras(found: Config) -> bool:
    module = found.get("module")
    if ">" in str(found.get("registered_name")):
        return False
    if module is None:
        return True
    return str(module).split(".")[0] in _PACKAGES or str(module).startswith(_OF_TENSORFLOW)


def _is_idle(kind: str, key: str, value: Any) -> bool:
    idle = _UNKNOWN_NOW.get(kind, {})
    if key in _SAYS_NOTHING or (key == _ONE_KERNEL and _ONE_GROUP.items() <= idle.items()):
        return True
    if kind in _NEVER_TRAINABLE and key == "trainable":
        return True
    return key in idle and idle[key] == value


def _rescaling(found: Config) -> Config:
    """Arithmetic with a number as a layer; anything else as it is, to be refused."""
    scale, calls = _RESCALED.get(str(found["config"].get("function"))), found.get("inbound_nodes")
    call = calls[0] if isinstance(calls, list) and len(calls) == 1 else None
    if scale is None or not isinstance(call, list) or not _is_reference(call):
        return found
    if len(call) != 4 or not isinstance(call[3], dict):
        return found
    number = call[3].get("y")
    if type(number) not in (int, float) or not number:
        return found
    factor, offset = scale(float(number))
    config = {"name": found["name"], "scale": factor, "offset": offset}
    layer = {"class_name": "Rescaling", "name": found["name"], "config": config}
    return _own(layer | {"inbound_nodes": [[[*call[:3], {}]]]})


def _container(found: Config) -> Config:
    """A model, with references as Keras 3 counts them."""
    if not _is_of_keras(found):
        return found
    kind = found["class_name"]
    inner = dict(found["config"])
    _rename(inner)
    if kind != _SEQUENTIAL:
        kind = "Model"
        _renumber(inner)
        for key in ("input_layers", "output_layers"):
            if isinstance(inner[key], list) and [*map(_is_reference, inner[key])] == [True]:
                inner[key] = inner[key][0]
    said = {"class_name": kind, "module": "keras", "registered_name": None, "config": inner}
    return found | said


def _with_input(config: Config) -> Config:
    """A Sequential model that has its input, which the first layer may say instead."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(layers, list) or not layers:
        return config
    first = layers[0] if isinstance(layers[0], dict) else {}
    said = first.get("config")
    shape = said.get("batch_input_shape") if isinstance(said, dict) else None
    if first.get("class_name") == _INPUT or shape is None:
        return config
    image = {"class_name": _INPUT, "config": {"batch_input_shape": shape}}
    return config | {"config": inner | {"layers": [image, *layers]}}


def _rename(inner: Config) -> None:
    """Give layers, and references to them, the names that Keras 3 takes."""
    for entry in (inner, *inner["layers"]):
        if isinstance(entry.get("name"), str):
            entry["name"] = layer_name(entry["name"])
    for reference in _references(inner):
        reference[0] = layer_name(reference[0])


def _renumber(inner: Config) -> None:
    """A model within a model had a call of its own before it was called; it has none now."""
    called = {
        layer["name"]: len(layer.get("inbound_nodes", ()))
        for layer in inner["layers"]
        if layer["class_name"] in CONTAINERS
    }
    references = [*_references(inner)]
    for name, calls in called.items():
        own = [reference for reference in references if reference[0] == name]
        if own and max(reference[1] for reference in own) >= calls:
            for reference in own:
                reference[1] -= 1


def _references(value: Any) -> Iterator[list[Any]]:
    """Every [layer, call, tensor, …] of a model, not of models within it."""
    if _is_reference(value):
        yield value
        value = value[3:]
    if isinstance(value, dict):
        value = [entry for key, entry in value.items() if key != "config"]
    if isinstance(value, list):
        for entry in value:
            yield from _references(entry)


def _is_reference(value: Any) -> bool:
    if not isinstance(value, list) or len(value) not in (3, 4):
        return False
    name, call, tensor = value[:3]
    return isinstance(name, str) and type(call) is int and type(tensor) is int
