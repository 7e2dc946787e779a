"""The layers with weights of a model and of an HDF5 file, and whether they fit."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tlcli.backbones import archives
from tlcli.backbones.runtime import keras_module
from tlcli.errors import UsageError
from tlcli.strict import Malformed

_DEEPEST = 100

_NUMBERS = "fiuSO"
"""Kinds of arrays: texts too, which Keras keeps beside weights."""

# Vectors of equal length that would not be noticed when exchanged.
_VECTOR_ROLES = {"gamma", "beta", "moving_mean", "moving_variance", "bias", "mean", "variance"}

_MOST_SHAPES = 6
"""More than a layer of any backbone has: it is a network within another."""

NO_TOP = "Use a file saved with include_top=False (often named no_top or notop)"
WITH_TOP = "Use a file saved with include_top=True and 1000 classes"


def role(variable: Any) -> str:
    """Return what a Keras variable is to its layer: "kernel", "gamma", "moving_mean", ….

    "variable" for the few that have no name of their own and get a number from Keras.
    """
    name = str(variable.path).rsplit("/", 1)[-1]
    return "variable" if re.fullmatch(r"variable_\d+", name) else name


@dataclass(frozen=True)
class SavedLayer:
    """One layer with weights, of a model or of a file.

    Attributes:
        name: its name, where the file has it.
        roles: what each weight is, where the file says so.
        shapes: shape of each weight.
        named: its name was chosen, not made up by Keras from the class and a counter.
    """

    name: str
    roles: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    named: bool = True


@dataclass(frozen=True)
class SavedValue:
    """One weight of a whole model in a file."""

    path: str
    """Its name, with that of its layer."""
    dataset: h5py.Dataset

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its values."""
        return tuple(self.dataset.shape)

    def numpy(self) -> NDArray[Any]:
        """Its values, as of a variable."""
        return np.asarray(self.dataset[()])


def require_own(file: h5py.File, length: int) -> None:
    """Refuse a file that leads elsewhere, or that stands for far more bytes than it has.

    Raises:
        Malformed: it does.
    """
    groups, seen, size = [(file, 0)], {_address(file)}, 0
    while groups:
        group, depth = groups.pop()
        if depth > _DEEPEST:
            raise Malformed(f"its groups are nested more than {_DEEPEST} deep")
        for item in _own_items(group):
            if (address := _address(item)) in seen:
                raise Malformed("something in it has two names")
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append((item, depth + 1))
            else:
                size += item.size * item.dtype.itemsize
        if size > archives.most_unpacked(length):
            raise Malformed(f"its {length} bytes stand for {size}")


def _address(item: h5py.Group | h5py.Dataset) -> int:
    return int(h5py.h5o.get_info(item.id).addr)


def _own_items(group: h5py.Group) -> Iterator[h5py.Group | h5py.Dataset]:
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise Malformed(f"link {group.name}/{name} is not allowed")
        item = group[name]
        if isinstance(item, h5py.Dataset):
            _require_numbers(item)
        elif not isinstance(item, h5py.Group):
            raise Malformed(f"{group.name}/{name} is neither an array nor a group")
        yield item


def _require_numbers(item: h5py.Dataset) -> None:
    if item.external or item.is_virtual:
        raise Malformed(f"dataset {item.name} lies in another file, which is not allowed")
    if item.shape is None or item.dtype.kind not in _NUMBERS:
        raise Malformed(f"dataset {item.name} holds no numbers")
    if item.size and not item.id.get_storage_size():
        raise Malformed(f"dataset {item.name} was never written")


def legacy_layers(file: h5py.File) -> list[SavedLayer]:
    """Return the layers with weights of the format before Keras 3, in the file's order."""
    group = _legacy_group(file)
    names = _texts(group, "layer_names")
    if not names and "layers" in file:
        raise ValueError("it has the layout of .weights.h5: rename it to end so")
    saved = [_legacy_layer(name, group[name]) for name in names]
    return [layer for layer in saved if layer.shapes]


def _legacy_group(file: h5py.File) -> h5py.Group:
    return file["model_weights"] if is_whole_model(file) else file


def is_whole_model(file: h5py.File) -> bool:
    """Whether a file of the format before Keras 3 is of a model, and not of its weights alone."""
    return "layer_names" not in file.attrs and "model_weights" in file


def legacy_values(file: h5py.File) -> list[SavedValue]:
    """Return the weights of a whole model, in the order of its layers.

    A network within it is a layer of its own, whose weights stand behind each other.
    """
    group = _legacy_group(file)
    return [
        SavedValue(str(weight).split(":")[0], group[name][weight])
        for name in _texts(group, "layer_names")
        for weight in _texts(group[name], "weight_names")
    ]


def _legacy_layer(name: str, group: h5py.Group) -> SavedLayer:
    weights = _texts(group, "weight_names")
    roles = tuple(weight.rsplit("/", 1)[-1].split(":")[0] for weight in weights)
    return SavedLayer(name, roles, tuple(group[weight].shape for weight in weights))


def _texts(group: h5py.Group, key: str) -> list[str]:
    """Return a list of names kept in an attribute, or in several when it is long."""
    if key in group.attrs:
        parts = [group.attrs[key]]
    else:
        numbered = sorted(
            (name for name in group.attrs if re.fullmatch(rf"{key}\d+", name)),
            key=lambda name: int(name.removeprefix(key)),
        )
        parts = [group.attrs[name] for name in numbered]
    values = [value for part in parts for value in part]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def model_layers(layers: list[Any]) -> list[SavedLayer]:
    """Return the layers with weights of a model, in its order."""
    return [_model_layer(layer) for layer in layers if layer.weights]


def _model_layer(layer: Any) -> SavedLayer:
    variables = [*layer.trainable_weights, *layer.non_trainable_weights]
    return SavedLayer(
        layer.name,
        tuple(role(variable) for variable in variables),
        tuple(tuple(variable.shape) for variable in variables),
        named=not re.fullmatch(_snake_case(type(layer).__name__) + r"(_\d+)?", layer.name),
    )


def found_by_path(file: h5py.File, model: Any) -> tuple[list[SavedLayer], list[SavedLayer]]:
    """Return the file's layers in the model's order, the rest behind; and the model's.

    `.weights.h5` files name a layer by its class and a counter, "layers/conv2d_3".
    """
    if "layer_names" in file.attrs:
        raise ValueError("it has the layout of .h5: rename it to end so")
    saved = dict(_weights_layers(file))
    wanted = dict(layer_paths(model))
    order = [path for path in wanted if path in saved]
    order += [path for path in saved if path not in wanted]
    return [saved[path] for path in order], [_model_layer(layer) for layer in wanted.values()]


def _weights_layers(file: h5py.File) -> Iterator[tuple[str, SavedLayer]]:
    groups: list[h5py.Group] = []

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        parts = name.split("/")  # not the optimizer's, nor the seed of a dropout
        if parts[-1] == "vars" and "layers" in parts[-3:-2] and len(item):
            groups.append(item)

    file.visititems(keep)
    for group in groups:
        path = str(group.parent.name).removeprefix("/")
        name = str(group.attrs.get("name", path))
        yield path, SavedLayer(name, (), tuple(group[key].shape for key in sorted(group, key=int)))


def layer_paths(model: Any, prefix: str = "layers") -> Iterator[tuple[str, Any]]:
    """Yield (group in Keras' HDF5 files, layer) for the layers with weights, in order."""
    used: dict[str, int] = {}
    for layer in model.layers:
        kind = _snake_case(type(layer).__name__)
        count = used.get(kind, 0)
        used[kind] = count + 1
        path = f"{prefix}/{kind}_{count}" if count else f"{prefix}/{kind}"
        if isinstance(layer, keras_module().Model):
            yield from layer_paths(layer, f"{path}/layers")
        elif layer.weights:
            yield path, layer


def _snake_case(name: str) -> str:
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def check_layers(
    found: list[SavedLayer], wanted: list[SavedLayer], path: Path, hint: str = NO_TOP
) -> None:
    """Raise UsageError for the first layer of the file that does not fit the model."""
    known = {_plain(layer.name): index for index, layer in enumerate(wanted) if layer.named}
    for index, (saved, layer) in enumerate(zip(found, wanted, strict=False)):
        if saved.shapes != layer.shapes or _roles_differ(saved, layer):
            raise _mismatch(path, f"{saved.name} has {_described(saved)}", layer, hint)
        expected = known.get(_plain(saved.name), index)
        if expected != index and _plain(saved.name) != _plain(layer.name):
            raise _mismatch(path, f"{saved.name} stands in its place", layer, hint)
    if len(found) != len(wanted):
        raise UsageError(
            f"Expected {len(wanted)} layers with weights. Received: weights={path} with "
            f"{len(found)}{_extra(found, wanted)}. {hint}, of the same backbone."
        )


def _mismatch(path: Path, received: str, layer: SavedLayer, hint: str) -> UsageError:
    return UsageError(
        f"Expected layer {layer.name} with {_described(layer)}. "
        f"Received: weights={path}, where {received}. "
        f"{hint}, of the same backbone."
    )


def _plain(name: str) -> str:
    """Return a layer's name as every version of Keras writes it."""
    return name.lower().replace("/", "_")


def _roles_differ(saved: SavedLayer, layer: SavedLayer) -> bool:
    pairs = zip(saved.roles, layer.roles, strict=False)
    return any(a != b and {a, b} <= _VECTOR_ROLES for a, b in pairs)


def _described(layer: SavedLayer) -> str:
    """The shapes of its weights; of many the first ones, and how many more there are."""
    shapes = ["×".join(map(str, shape)) or "scalar" for shape in layer.shapes]
    if len(shapes) > _MOST_SHAPES:
        shapes[_MOST_SHAPES:] = [f"and {len(shapes) - _MOST_SHAPES} more"]
    return " ".join(shapes)


def _extra(found: list[SavedLayer], wanted: list[SavedLayer]) -> str:
    if len(found) <= len(wanted):
        return ""
    first = found[len(wanted)]
    return f", the first too many being {first.name} with {_described(first)}"
