"""A folder that Keras 2 wrote with model.save: the layers of its model, and their weights.

`keras_metadata.pb` has the config of each layer as JSON, the checkpoint in `variables` a graph of
objects, by which variables are found. The graph of TensorFlow in `saved_model.pb` is not read.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlcli import strict
from tlcli.backbones.hdf5_layers import role
from tlcli.backbones.keras_2 import layer_name
from tlcli.backbones.runtime import tensorflow_module
from tlcli.strict import Malformed

METADATA = "keras_metadata.pb"
CHECKPOINT = ("variables", "variables")

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "VARIABLE_VALUE"
_LAYER = "layer-"

_OTHER_NAMES = {"depthwise_kernel": "kernel"}
"""Of variables, in Keras 2; in Keras 3."""

_NOT_KEPT = frozenset({"count"})
"""Variables that only tell how others came about."""


@dataclass(frozen=True, eq=False)
class SavedFolder:
    """What a folder says of its model."""

    path: Path
    nodes: Mapping[int, Any]
    """The number of an object → what Keras 2 says of it."""

    @staticmethod
    def of(path: Path) -> "SavedFolder":
        """Read what is said of the layers.

        Raises:
            OSError, ValueError, Malformed: it cannot be read.
        """
        tensorflow_module()
        from google.protobuf.message import DecodeError
        from tensorflow.python.keras.protobuf import saved_metadata_pb2

        said = saved_metadata_pb2.SavedMetadata()
        with strict.opened(path / METADATA, links=True) as file:
            content = file.read()
        try:
            said.ParseFromString(content)
        except DecodeError as error:
            raise Malformed(f"{METADATA} is damaged") from error
        return SavedFolder(path, {node.node_id: json.loads(node.metadata) for node in said.nodes})

    @property
    def config(self) -> dict[str, Any]:
        """The architecture of the whole model, as Keras 2 has it."""
        root = self.nodes.get(0)
        if not isinstance(root, dict) or not isinstance(root.get("config"), dict):
            raise Malformed("it does not say what its model is made of")
        return {key: root[key] for key in ("class_name", "config")}

    def restore(self, model: Any) -> None:
        """Give the layers of a model their weights.

        Raises:
            Malformed: it has others.
        """
        _Restoring.of(self).container(model, 0)


@dataclass(frozen=True, eq=False)
class _Restoring:
    """A checkpoint that is being read."""

    folder: SavedFolder
    reader: Any
    objects: Any
    """Each with its children and, of a variable, the key of its value."""

    @staticmethod
    def of(folder: SavedFolder) -> "_Restoring":
        tensorflow = tensorflow_module()
        from tensorflow.core.protobuf import trackable_object_graph_pb2

        reader = tensorflow.train.load_checkpoint(str(folder.path.joinpath(*CHECKPOINT)))
        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        graph.ParseFromString(reader.get_tensor(_GRAPH))
        return _Restoring(folder, reader, graph.nodes)

    def container(self, model: Any, number: int) -> None:
        """A model, whose layers are children with a number."""
        layers = {layer.name: layer for layer in model.layers}
        for name, child in self._layers(number):
            layer = layers.pop(name, None)
            if layer is None:
                raise Malformed(f"its layer {name} is not in the model")
            if hasattr(layer, "layers"):
                self.container(layer, child)
            else:
                self._layer(layer, child)
        if missing := [name for name, layer in layers.items() if layer.weights]:
            raise Malformed(f"it has no weights of {missing[0]}")

    def _layers(self, number: int) -> Iterator[tuple[str, int]]:
        for child in self.objects[number].children:
            if child.local_name.startswith(_LAYER):
                said = self.folder.nodes.get(child.node_id)
                name = str(said["name"] if isinstance(said, dict) else None)
                yield layer_name(name), child.node_id

    def _layer(self, layer: Any, number: int) -> None:
        """A layer, whose variables are children of theirs."""
        wanted = {role(variable): variable for variable in layer.weights}
        found = dict(self._variables(number))
        if "depthwise_kernel" in found and "depthwise_kernel" not in wanted:
            found = {_OTHER_NAMES.get(name, name): key for name, key in found.items()}
        read = {found.get(name) for name in wanted}
        others = {name for name, key in found.items() if key not in read} - _NOT_KEPT
        if len(wanted) != len(layer.weights) or None in read or others:
            raise Malformed(f"its {layer.name} has {sorted(found)}, not {sorted(wanted)}")
        for name, variable in wanted.items():
            self._assign(layer, variable, found[name])
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()

    def _variables(self, number: int) -> Iterator[tuple[str, str]]:
        for child in self.objects[number].children:
            for attribute in self.objects[child.node_id].attributes:
                if attribute.name == _VALUE:
                    yield child.local_name, attribute.checkpoint_key

    def _assign(self, layer: Any, variable: Any, key: str) -> None:
        shape = self.reader.get_variable_to_shape_map().get(key)
        if shape is None or tuple(shape) != tuple(variable.shape):
            raise Malformed(f"{variable.path} is of shape {shape}, not {tuple(variable.shape)}")
        variable.assign(self.reader.get_tensor(key))
